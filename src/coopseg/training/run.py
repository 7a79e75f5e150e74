"""Implements `train` and `resume`: from a folder of scans to a run folder with weights, log and record."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from lightning_fabric import Fabric

from coopseg.cases.splits import REQUEST, RUN
from coopseg.config.section import Changes
from coopseg.errors import CoopsegError, Stopped
from coopseg.scans.files import check_new, locked, make_folder, write_atomically
from coopseg.scans.types import Dataset
from coopseg.text import one_line, shorten
from coopseg.training.batches import SliceStore, filled_share
from coopseg.training.checkpoint import (
    CHECKPOINT,
    RequestRecord,
    check_same,
    claimed,
    describe_request,
    load_checkpoint,
    read_request,
    write_request,
)
from coopseg.training.inputs import (
    Inputs,
    adapt_request,
    change_request,
    check_code,
    make_request,
    read_inputs,
    resolve_request,
)
from coopseg.training.log import JsonLines, Scores, Values, make_trackers
from coopseg.training.loop import Loop, LoopState, Progress
from coopseg.training.processes import keep_freed_memory, make_fabric, peak_memory_gb
from coopseg.training.request import TrainingRequest
from coopseg.versions import versions


class RunRecord(TypedDict):
    """Describes a finished training in run.json. Times are in seconds, memory in GiB."""

    started: str
    settings: Mapping[str, Any]
    data: Mapping[str, str | Sequence[str]]
    split: Mapping[str, str | Sequence[str]]
    slices: int
    steps: int
    device: str
    processes: int
    threads: int
    kernels: str | int | None
    seconds: float
    seconds_per_step: float
    peak_memory_gb: float
    best: Scores
    validations: list[Values]
    warnings: list[str]
    versions: Mapping[str, str]
    command: list[str]


def train(
    data: str | Path | Dataset,
    out: str | Path,
    *,
    preset: str = "default",
    method: str | None = None,
    split: str | Path = "random",
    layout: str = "auto",
    labels: str | None = None,
    settings: Changes = (),
    seed: int = 0,
    device: str = "auto",
    precision: str = "32",
    cache: str | Path | None = None,
    save_every: float = 60.0,
    adapt: bool = False,
    progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Path:
    """Train FTN and STN (Chen et al. 2021) on the training patients of a data set; returns the run folder.

    data: a folder in one of the known layouts, or an open data set. out: new or empty folder. method: None
    takes the default, or that of a published preset. split: see `coopseg.cases.splits.get_split`. labels:
    "LV=1,MYO=2" if the layout names none. settings: overrides such as {"training.steps": 500}. device:
    "auto", "cpu", "cuda" or "mps". precision: "32" or "bf16". cache: folder for prepared cases. save_every:
    seconds between two checkpoints, from which `resume` goes on. adapt: choose spacing, crop and intensity
    rule from the training and validation scans (see `adapt_cases`), and keep them among `settings`. progress:
    called with every Progress.
    warn: called before the training with every line about data and settings that a user should look at.
    `out` gets last.safetensors and the best weights of each head (see `load_model`), request.json, log.jsonl
    and, at the end, run.json.
    Raises CoopsegError for anything wrong with the data, the settings or the folder, before training starts,
    and if a file cannot be written; Stopped after SIGTERM or Ctrl-C, with everything saved for `resume`.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 2}
    >>> run = train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> coopseg.load_model(run).names
    ('background', 'RV', 'MYO', 'LV')
    """
    given = {name: value for name, value in locals().items() if name in TrainingRequest.model_fields}
    request, out = make_request(**given), Path(out)
    fabric = make_fabric(device, resolve_request(request).precision)
    _check_unused(out)
    opened, adapted = data if isinstance(data, Dataset) else None, ""
    if adapt:
        request, adapted = adapt_request(request, opened)
    inputs = replace(read_inputs(request, opened), adapted=adapted)
    record = describe_request(request, inputs, fabric)
    fabric.barrier()  # nothing is written before every process has found the folder empty
    if fabric.is_global_zero:
        make_folder(out, out)
    with claimed(out, fabric):
        if fabric.is_global_zero:
            _check_unused(out)  # another training may have been quicker
            write_request(out, record)
        return _train(inputs, out, fabric, record, progress, warn, [])


def resume(
    run: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] | None = None,
    **given: Any,
) -> Path:
    """Go on with a killed or stopped training; on a CPU the result is bit for bit as without the stop.

    run: its folder; a finished one is left as it is. given: arguments of `train` that have changed, such as
    `data` for a folder that has moved, or `save_every`; and `method`, if it is one of your own as
    "module:class": nothing that is read from a folder is imported. progress,
    warn: as for `train`.
    Raises CoopsegError as `train` does, and if something that matters has changed, naming it.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 4}
    >>> def stop(progress):
    ...     if progress.step == 2:
    ...         raise KeyboardInterrupt
    >>> how = {"preset": "quick", "settings": tiny, "device": "cpu", "save_every": 0}
    >>> try:
    ...     coopseg.train(scans, folder / "run", progress=stop, **how)
    ... except KeyboardInterrupt:
    ...     run = resume(folder / "run")
    >>> (run / "run.json").is_file()
    True
    """
    run = Path(run)
    before = read_request(run)
    request = change_request(before.arguments, **given)
    check_code(run / REQUEST, request, **given)
    fabric = make_fabric(request.device, resolve_request(request).precision)
    data = given.get("data")
    with claimed(run, fabric):
        inputs = read_inputs(request, data if isinstance(data, Dataset) else None)
        notes = check_same(before, describe_request(request, inputs, fabric), run)
        if (run / RUN).is_file():
            return run
        fabric.barrier()  # the first process may write run.json only when all have found it missing
        changed = before.model_copy(update={"arguments": request})
        return _train(inputs, run, fabric, changed, progress, warn, notes)


def _train(
    inputs: Inputs,
    out: Path,
    fabric: Fabric,
    record: RequestRecord,
    progress: Callable[[Progress], None] | None,
    warn: Callable[[str], None] | None,
    notes: list[str],
) -> Path:
    """Trains from the checkpoint in `out`, if there is one, to the end, and writes the record."""
    keep_freed_memory()
    warnings = notes + inputs.warnings
    if warn and fabric.is_global_zero:
        for line in warnings:
            warn(line)
    with _failing_clearly(out):
        loop = Loop(
            settings=inputs.settings,
            store=SliceStore.from_cases(inputs.training, inputs.settings, fabric.device),
            validation=inputs.validation,
            out=out,
            fabric=fabric,
            progress=progress,
            save_every=record.arguments.save_every,
        )
        _run(loop, inputs, notes)
        if fabric.is_global_zero:
            described = describe_run(loop, inputs, record, warnings=warnings)
            write_atomically(out / RUN, json.dumps(described, indent=1).encode())
            (out / CHECKPOINT).unlink(missing_ok=True)
    fabric.barrier()  # when this returns, the folder is whole for every process
    return out


def _run(loop: Loop, inputs: Inputs, notes: list[str]) -> None:
    goes_on = _load(loop)
    if loop.fabric.is_global_zero:
        loop.trackers = make_trackers(loop.out, after=loop.done if goes_on else -1)
        notes += [
            tracker.note for tracker in loop.trackers if isinstance(tracker, JsonLines) and tracker.note
        ]
    try:
        with_seed = torch.Generator().manual_seed(loop.settings.seed)
        sizes: Values = {
            "method": loop.settings.method,
            **({"adapted": inputs.adapted} if inputs.adapted else {}),
            "crop": inputs.lost,
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


def _load(loop: Loop) -> bool:
    """Goes to where the checkpoint stood; False if there is none. Raises CoopsegError if it does not fit."""
    path = loop.out / CHECKPOINT
    state = load_checkpoint(path)
    if state is None:
        return False
    lacks = [name for name in LoopState.__annotations__ if not isinstance(state, dict) or name not in state]
    try:
        if lacks or not isinstance(state["step"], int) or not 0 <= state["step"] <= loop.steps:
            raise ValueError(f"no {lacks[0]}" if lacks else f"step {shorten(state['step'])} of {loop.steps}")
        loop.load_state_dict(state)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise CoopsegError(
            f"{path}: is not of this training ({one_line(error)}); remove it to begin at step 0, or "
            "train anew with another --out"
        ) from None
    return True


def describe_run(loop: Loop, inputs: Inputs, record: RequestRecord, *, warnings: list[str]) -> RunRecord:
    """Returns everything that is written about a finished training."""
    dataset, split, history = inputs.dataset, inputs.parts, loop.history
    return {
        "started": record.started,
        "settings": loop.settings.model_dump(mode="json"),
        "data": {"name": dataset.name, "layout": dataset.layout, "labels": loop.names},
        "split": {"name": split.name, "train": split.train, "validate": split.validate, "test": split.test},
        "slices": len(loop.store),
        "steps": loop.steps,
        "device": str(loop.fabric.device),
        "processes": loop.fabric.world_size,
        "threads": torch.get_num_threads(),
        "kernels": record.like.get("kernels"),
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
        with locked(out):  # else one that runs now
            pass
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
