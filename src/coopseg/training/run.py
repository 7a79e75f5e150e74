"""Implements `train` and `resume`: from a folder of scans to a run folder with weights, log and record."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from coopseg.cases.splits import REQUEST, RUN
from coopseg.errors import CoopsegError, Stopped
from coopseg.scans.files import check_new, make_folder, write_atomically
from coopseg.training.batches import SliceStore, filled_share
from coopseg.training.checkpoint import CHECKPOINT, load_checkpoint
from coopseg.training.inputs import Arguments, Inputs, read_inputs
from coopseg.training.log import make_trackers
from coopseg.training.loop import SAVE_EVERY, Loop, Progress
from coopseg.training.processes import keep_freed_memory, make_fabric, peak_memory_gb
from coopseg.training.request import (
    change_arguments,
    check_same,
    claimed,
    describe_request,
    read_request,
    write_request,
)
from coopseg.versions import versions


def train(
    data: str | Path,
    out: str | Path,
    *,
    preset: str = "default",
    method: str | None = None,
    split: str = "random",
    layout: str = "auto",
    labels: str | None = None,
    settings: Mapping[str, Any] | Iterable[str] = (),
    seed: int = 0,
    device: str = "auto",
    precision: str = "32",
    cache: str | Path | None = None,
    save_every: float = SAVE_EVERY,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train FTN and STN (Chen et al. 2021) on the training patients of a data set; returns the run folder.

    data: folder in one of the known layouts. out: new or empty folder. method: None takes the default, or
    that of a published preset. split: see `coopseg.cases.splits.get_split`. labels: "LV=1,MYO=2" if the
    layout names none. settings: overrides such as {"training.steps": 500}. device: "auto", "cpu", "cuda" or
    "mps". cache: folder for prepared cases. save_every: seconds between two checkpoints, from which `resume`
    goes on. report: called with every progress.
    Raises CoopsegError for anything wrong with the data, the settings or the folder, before training starts,
    and if a file cannot be written; Stopped after SIGTERM or Ctrl-C, with everything saved for `resume`.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> coopseg.load_model(run).names
    ('background', 'RV', 'MYO', 'LV')
    """
    out = Path(out)
    arguments = Arguments.of(
        data=data,
        preset=preset,
        method=method,
        split=split,
        layout=layout,
        labels=labels,
        settings=settings,
        seed=seed,
        device=device,
        precision=precision,
        cache=cache,
    )
    fabric = make_fabric(device, arguments.resolve().precision)
    _check_unused(out)
    inputs = read_inputs(arguments)
    fabric.barrier()  # nothing is written before every process has found the folder empty
    if fabric.is_global_zero:
        make_folder(out, out)
        write_request(out, describe_request(arguments, inputs, fabric))
    return _train(inputs, out, fabric, save_every, report, [])


def resume(
    run: str | Path,
    *,
    save_every: float = SAVE_EVERY,
    report: Callable[[Progress], None] = lambda progress: None,
    **given: Any,
) -> Path:
    """Go on with a killed or stopped training; on a CPU the result is bit for bit as without the stop.

    run: its folder; a finished one is left as it is. given: arguments of `train` that have changed, such as
    `data` for a folder that has moved.
    Raises CoopsegError as `train` does, and if something that matters has changed, naming it.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = coopseg.train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> resume(run) == run  # it had come to its end
    True
    """
    run = Path(run)
    before = read_request(run)
    arguments = change_arguments(before["arguments"], given)
    fabric = make_fabric(arguments.device, arguments.resolve().precision)
    inputs = read_inputs(arguments)
    notes = check_same(before, describe_request(arguments, inputs, fabric), run)
    if (run / RUN).is_file():
        return run
    fabric.barrier()  # the first process may write run.json only when all have found it missing
    return _train(inputs, run, fabric, save_every, report, notes)


def _train(
    inputs: Inputs,
    out: Path,
    fabric: Fabric,
    save_every: float,
    report: Callable[[Progress], None],
    notes: list[str],
) -> Path:
    """Trains from the checkpoint in `out`, if there is one, to the end, and writes the record."""
    keep_freed_memory()
    with _failing_clearly(out), claimed(out, fabric):
        loop = Loop(
            settings=inputs.settings,
            store=SliceStore.from_cases(inputs.training, inputs.settings, fabric.device),
            validation=inputs.validation,
            out=out,
            fabric=fabric,
            report=report,
            save_every=save_every,
        )
        _run(loop, inputs)
        if fabric.is_global_zero:
            record = describe_run(loop, inputs, warnings=notes + inputs.warnings)
            write_atomically(out / RUN, json.dumps(record, indent=1).encode())
            (out / CHECKPOINT).unlink(missing_ok=True)
    fabric.barrier()  # when this returns, the folder is whole for every process
    return out


def _run(loop: Loop, inputs: Inputs) -> None:
    state = load_checkpoint(loop.out / CHECKPOINT)
    if state:
        loop.load_state_dict(state)
    if loop.fabric.is_global_zero:
        loop.trackers = make_trackers(loop.out, after=loop.done if state else -1)
    try:
        with_seed = torch.Generator().manual_seed(loop.settings.seed)
        sizes = {
            "method": loop.settings.method,
            "training_patients": len(inputs.parts.train),
            "training_slices": len(loop.store),
            "validation_patients": len(inputs.parts.validate),
            "filled_share": filled_share(loop.store, loop.settings, with_seed),
        }
        with loop.signals:
            loop.log("start", loop.done, sizes)
            loop.run()
    finally:
        for tracker in loop.trackers:
            tracker.close()


def describe_run(loop: Loop, inputs: Inputs, *, warnings: list[str]) -> dict[str, Any]:
    """Returns everything that is written about a finished training."""
    dataset, split, history = inputs.dataset, inputs.parts, loop.history
    return {
        "started": read_request(loop.out)["started"],
        "settings": loop.settings.model_dump(mode="json"),
        "data": {"name": dataset.name, "layout": dataset.layout, "labels": loop.names},
        "split": {"name": split.name, "train": split.train, "validate": split.validate, "test": split.test},
        "slices": len(loop.store),
        "steps": loop.steps,
        "device": str(loop.fabric.device),
        "processes": loop.fabric.world_size,
        "threads": torch.get_num_threads(),
        "kernels": read_request(loop.out)["like"].get("kernels"),
        "seconds": history.seconds,
        "seconds_per_step": history.step_seconds / loop.steps,
        "peak_memory_gb": peak_memory_gb(loop.fabric.device),
        "best": history.best,
        "validations": history.validations,
        "warnings": warnings,
        "versions": versions(),
        "command": sys.argv,
    }


def _check_unused(out: Path) -> None:
    if (out / REQUEST).is_file() and not (out / RUN).is_file():
        raise CoopsegError(
            f"{out}: holds a training that did not end; go on with `coopseg train --resume {out}`, "
            "or choose another --out"
        )
    check_new(out)


@contextmanager
def _failing_clearly(out: Path) -> Iterator[None]:
    """Turns a failed write, or a stop, into one line that says how to go on."""
    again = f"`coopseg train --resume {out}`"
    try:
        yield
    except OSError as error:
        raise CoopsegError(
            f"{error.filename or out}: cannot be written ({error.strerror}); make room, then {again}"
        ) from None
    except Stopped as stopped:
        raise Stopped(f"{out}: {stopped}; go on with {again}", stopped.signal) from None
