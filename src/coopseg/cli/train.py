"""Defines the verb `coopseg train`."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from coopseg.cli.console import (
    Adapt,
    Device,
    LabelNames,
    Layout,
    Precision,
    Set,
    TrainingDisplay,
    asked,
    counting,
    dice_of_heads,
    note,
    say,
    warn,
)
from coopseg.config.methods import DEFAULT_METHOD, OF_PRESETS
from coopseg.errors import CoopsegError, Stopped
from coopseg.training.request import TrainingRequest

METHOD_DEFAULT = f"{DEFAULT_METHOD}; with a published preset {', '.join(sorted(set(OF_PRESETS.values())))}"


def train(
    context: typer.Context,
    data: Annotated[Path | None, asked("data", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="run folder to make", show_default=False)] = None,
    preset: Annotated[str, asked("preset")] = "default",
    method: Annotated[str | None, asked("method", show_default=METHOD_DEFAULT)] = None,
    split: Annotated[str, asked("split")] = "random",
    layout: Layout = "auto",
    labels: LabelNames = None,
    settings: Set = None,
    device: Device = "auto",
    precision: Precision = "32",
    seed: Annotated[int, asked("seed")] = 0,
    cache: Annotated[Path | None, asked("cache", show_default=False)] = None,
    save_every: Annotated[float, asked("save_every", min=0)] = 60.0,
    adapt: Adapt = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="at the end fit, on the validation patients, what Dice label maps are expected to have",
        ),
    ] = True,
    resume: Annotated[
        Path | None,
        typer.Option(help="run folder of a stopped training to go on with", show_default=False),
    ] = None,
) -> None:
    """Train a model on a labelled data set (--data and --out), or go on with a stopped training (--resume).

    OUT gets last.safetensors (the weights that `--model OUT` means), log.jsonl and run.json. It also gets
    best_ftn.safetensors and best_stn.safetensors, the weights with the highest validation Dice of the FTN
    (fast-thinking network) and of the STN (slow-thinking network). SIGTERM and Ctrl-C save a checkpoint
    first; the exit code is then 143 or 130. At the end the model is calibrated on the validation patients, so
    that predict says what Dice to expect; `coopseg calibrate` does it again with more of them.
    """
    settings = settings or []
    given = {name: value for name, value in locals().items() if name in TrainingRequest.model_fields}
    if resume is not None:
        if adapt:
            raise CoopsegError(f"--resume keeps what {resume} was adapted to; leave --adapt away")
        if _resume(resume, out, context, **given) and calibrate:
            _calibrate(resume, device)
        _report(resume)
        return
    if data is None or out is None:
        raise CoopsegError("train needs --data and --out, or --resume with the folder of an earlier training")
    note(f"reading {data}")
    with _stopping_clearly(out), TrainingDisplay() as display:
        from coopseg.training.run import train as train_model
        from coopseg.workers import busy_line

        if line := busy_line():
            note(line)
        train_model(out=out, adapt=adapt, progress=display, warn=warn, **given)
    if calibrate:
        _calibrate(out, device)
    _report(out)


def _resume(run: Path, out: Path | None, context: typer.Context, **given: Any) -> bool:
    """Resumes a training; only options that were typed are compared with those it began with.

    Returns whether it had not ended before.
    """
    if out is not None:
        raise CoopsegError(f"--resume goes on in {run}; leave --out away")
    from coopseg.cases.splits import has_ended

    typed = {
        name: value
        for name, value in given.items()
        if context.get_parameter_source(name).name == "COMMANDLINE"  # type: ignore[union-attr]
    }
    ended = has_ended(run)
    if ended is False:
        note(f"going on with {run}")
    with _stopping_clearly(run), TrainingDisplay() as display:
        from coopseg.training.run import resume

        resume(run, progress=display, warn=warn, **typed)
    if ended:
        note(f"{run}: this training has ended; to train longer, begin another with more training.steps")
    return not ended


def _calibrate(out: Path, device: str) -> None:
    """Calibrates on the validation patients; says why not if that cannot be done: the training is whole."""
    if not _prints():
        return
    from coopseg.config.resolve import own_code
    from coopseg.training.calibrate import calibrate
    from coopseg.training.checkpoint import read_request
    from coopseg.training.inputs import resolve_request

    kind = resolve_request(read_request(out).arguments).network.kind  # whose code has just been trained
    try:
        with counting("calibrating") as progress:
            found = calibrate(out, device=device, trust=own_code([kind]), progress=progress, warn=warn)
    except CoopsegError as error:
        note(
            f"not calibrated, so that predict expects no Dice ({error}); `coopseg calibrate --model {out} "
            "--data FOLDER` does it with labelled scans of two patients or more, better ten"
        )
        return
    note(
        f"calibrated {found.describe()}; on patients left out the expected Dice of a structure is "
        f"{found.skill.error:.3f} off on average"
    )


def _prints() -> bool:
    """Tells whether this is the process that prints: under torchrun the first one alone."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _stopping_clearly(out: Path) -> Iterator[None]:
    """Says how to go on after Ctrl-C or SIGTERM, where the training does not, as before its first step."""
    from coopseg.cases.splits import has_ended

    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        said = f"stopped; go on with `coopseg train --resume {out}`"
        if has_ended(out) is None:
            said = "stopped before the training began; nothing is lost, give the same command again"
        raise Stopped(f"{out}: {said}", number) from None


def _report(out: Path) -> None:
    if not _prints():
        return
    from coopseg.cases.splits import RUN
    from coopseg.results.records import EndedRunFile, best_of, read_checked
    from coopseg.results.remarks import stn_behind
    from coopseg.training.checkpoint import read_request
    from coopseg.training.inputs import resolve_request

    record = read_checked(EndedRunFile, out / RUN, "train anew with another --out")
    request = read_request(out).arguments
    last = {head: scores for head, scores in record["validations"][-1].items() if head != "step"}
    heads = record.get("best", {})
    written = resolve_request(request).prediction.head
    behind = stn_behind(last) if written == "FTN+STN" else None
    if behind:
        warn(behind)
    best = [f"{head} {at[0]:.3f} at step {at[1]}" for head in heads if (at := best_of(record, head))]
    say(f"run folder: {out}")
    say(f"last validation Dice: {dice_of_heads(last)}")
    say(f"best validation Dice: {'; '.join(best)}")
    named = f" --labels {shlex.quote(request.labels)}" if request.labels else ""
    alone = " --refine 0" if behind else ""
    say(f"next: coopseg predict --model {out} SCAN... --out DIR{alone}")
    say(f"  or: coopseg evaluate --model {out} --data DATA --split {out} --out DIR{named}{alone}")
