"""Defines the verb `coopseg train`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from coopseg.cli.console import TrainingDisplay, dice_of_heads, note, say, warn
from coopseg.cli.options import METHOD_HELP, Device, LabelNames, Layout, Precision, Set
from coopseg.config.methods import DEFAULT_METHOD, OF_PRESETS, PRESETS
from coopseg.errors import CoopsegError

METHOD_DEFAULT = f"{DEFAULT_METHOD}; with a published preset {', '.join(sorted(set(OF_PRESETS.values())))}"


def train(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="folder of the data set", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="run folder to make", show_default=False)] = None,
    preset: Annotated[str, typer.Option(help=f"how much to train: {', '.join(PRESETS)}")] = "default",
    method: Annotated[str | None, typer.Option(help=METHOD_HELP, show_default=METHOD_DEFAULT)] = None,
    split: Annotated[
        str,
        typer.Option(help="how to divide the patients: random, a name (`coopseg info`), a JSON or YAML file"),
    ] = "random",
    layout: Layout = "auto",
    labels: LabelNames = None,
    settings: Set = None,
    device: Device = "auto",
    precision: Precision = "32",
    seed: Annotated[int, typer.Option(help="seed of split, weights, batches, augmentation and masks")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="folder to keep prepared cases in", show_default=False)
    ] = None,
    save_every: Annotated[float, typer.Option(min=0, help="seconds between two checkpoints")] = 60.0,
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
    given = dict(
        preset=preset,
        method=method,
        split=split,
        layout=layout,
        labels=labels,
        settings=settings or (),
        seed=seed,
        device=device,
        precision=precision,
        cache=cache,
        save_every=save_every,
    )
    if resume is not None:
        _resume(resume, out, {**given, "data": data}, context)
        return
    if data is None or out is None:
        raise CoopsegError("train needs --data and --out, or --resume with the folder of an earlier training")
    from coopseg.training.run import train as train_model

    note(f"reading {data}")
    with TrainingDisplay() as display:
        train_model(data, out, **given, report=display)  # type: ignore[arg-type]
    _report(out)


def _resume(run: Path, out: Path | None, given: dict[str, Any], context: typer.Context) -> None:
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
        resume(run, **typed, report=display)
    _report(run)


def _report(out: Path) -> None:
    if os.environ.get("RANK", "0") != "0":  # under torchrun only the first process prints
        return
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    for warning in record["warnings"]:
        warn(warning)
    last = {head: scores for head, scores in record["validations"][-1].items() if head != "step"}
    best = [f"{head} {at['score']:.3f} at step {at['step']}" for head, at in record["best"].items()]
    say(f"run folder: {out}")
    say(f"last validation Dice: {dice_of_heads(last)}")
    say(f"best validation Dice: {'; '.join(best)}")
    say(f"next: coopseg predict --model {out} SCAN... --out DIR")
    say(f"  or: coopseg evaluate --model {out} --data DATA --split {out} --out DIR")
