"""Defines the verb `coopseg train`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
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
    dice_of_heads,
    note,
    say,
    warn,
)
from coopseg.config.methods import DEFAULT_METHOD, OF_PRESETS
from coopseg.errors import CoopsegError
from coopseg.training.request import TrainingRequest

METHOD_DEFAULT = f"{DEFAULT_METHOD}; with a published preset {', '.join(sorted(set(OF_PRESETS.values())))}"
CLEARLY_LOWER = 0.02  # Dice by which FTN+STN has to stay behind before a word is said


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
    resume: Annotated[
        Path | None,
        typer.Option(help="run folder of a stopped training to go on with", show_default=False),
    ] = None,
) -> None:
    """Train a model on a labelled data set (--data and --out), or go on with a stopped training (--resume).

    OUT gets last.safetensors (the weights that `--model OUT` means), log.jsonl and run.json. It also gets
    best_ftn.safetensors and best_stn.safetensors, the weights with the highest validation Dice of the FTN
    (fast-thinking network) and of the STN (slow-thinking network). SIGTERM and Ctrl-C save a checkpoint
    first; the exit code is then 143 or 130.
    """
    settings = settings or []
    given = {name: value for name, value in locals().items() if name in TrainingRequest.model_fields}
    if resume is not None:
        if adapt:
            raise CoopsegError(f"--resume keeps what {resume} was adapted to; leave --adapt away")
        _resume(resume, out, context, **given)
        return
    if data is None or out is None:
        raise CoopsegError("train needs --data and --out, or --resume with the folder of an earlier training")
    from coopseg.training.run import train as train_model

    note(f"reading {data}")
    with TrainingDisplay() as display:
        train_model(out=out, adapt=adapt, progress=display, warn=warn, **given)
    _report(out)


def _resume(run: Path, out: Path | None, context: typer.Context, **given: Any) -> None:
    """Resumes a training; only options that were typed are compared with those it began with."""
    if out is not None:
        raise CoopsegError(f"--resume goes on in {run}; leave --out away")
    from coopseg.training.run import resume

    typed = {
        name: value
        for name, value in given.items()
        if context.get_parameter_source(name).name == "COMMANDLINE"  # type: ignore[union-attr]
    }
    note(f"going on with {run}")
    with TrainingDisplay() as display:
        resume(run, progress=display, warn=warn, **typed)
    _report(run)


def _report(out: Path) -> None:
    if os.environ.get("RANK", "0") != "0":  # under torchrun only the first process prints
        return
    from coopseg.cases.splits import RUN
    from coopseg.text import read_json
    from coopseg.training.checkpoint import read_request

    record, request = read_json(out / RUN), read_request(out).arguments
    last = {head: scores for head, scores in record["validations"][-1].items() if head != "step"}
    behind = stn_behind(last)
    if behind:
        warn(behind)
    best = [f"{head} {at['score']:.3f} at step {at['step']}" for head, at in record["best"].items()]
    say(f"run folder: {out}")
    say(f"last validation Dice: {dice_of_heads(last)}")
    say(f"best validation Dice: {'; '.join(best)}")
    named = f" --labels {shlex.quote(request.labels)}" if request.labels else ""
    alone = " --refine 0" if behind else ""
    say(f"next: coopseg predict --model {out} SCAN... --out DIR{alone}")
    say(f"  or: coopseg evaluate --model {out} --data DATA --split {out} --out DIR{named}{alone}")


def stn_behind(last: Mapping[str, Mapping[str, float]]) -> str | None:
    """Returns a warning if FTN+STN, which `predict` writes, validates clearly lower than the FTN alone."""
    ftn, refined = (last.get(head, {}).get("mean") for head in ("FTN", "FTN+STN"))
    if ftn is None or refined is None or refined >= ftn - CLEARLY_LOWER:
        return None
    return (
        f"FTN+STN has a validation Dice of {refined:.3f}, the FTN alone {ftn:.3f}: the STN has learned too "
        "little; train longer, or give --refine 0 to predict and evaluate"
    )
