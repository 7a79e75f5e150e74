"""`coopseg train`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from coopseg.cli.console import TrainingDisplay, dice_of_heads, note, say, warn
from coopseg.cli.options import Device, LabelNames, Layout, Precision, Set
from coopseg.config.presets import METHODS, PRESETS


def train(
    data: Annotated[Path, typer.Option(help="folder of the data set", show_default=False)],
    out: Annotated[Path, typer.Option(help="run folder to make", show_default=False)],
    preset: Annotated[str, typer.Option(help=f"how much is trained: {', '.join(PRESETS)}")] = "default",
    method: Annotated[str, typer.Option(help=f"with which losses: {', '.join(METHODS)}")] = "cooperative",
    split: Annotated[
        str, typer.Option(help="which patients train: random, a name (`coopseg info`), a JSON or YAML file")
    ] = "random",
    layout: Layout = "auto",
    labels: LabelNames = None,
    settings: Set = None,
    device: Device = "auto",
    precision: Precision = "32",
    seed: Annotated[int, typer.Option(help="of split, weights, batches, augmentation and masks")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="folder to keep prepared cases in", show_default=False)
    ] = None,
) -> None:
    """Train a model on a labelled data set.

    OUT gets best.safetensors (by validation Dice), last.safetensors, log.jsonl and run.json.
    """
    from coopseg.training.run import train as train_model

    note(f"reading {data}")
    with TrainingDisplay() as display:
        train_model(
            data,
            out,
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
            report=display,
        )
    if os.environ.get("RANK", "0") == "0":  # under torchrun the first process speaks
        _report(out)


def _report(out: Path) -> None:
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    for warning in record["warnings"]:
        warn(warning)
    best = record["best"]
    heads = {head: scores for head, scores in best.items() if isinstance(scores, dict)}
    say(f"run folder: {out}")
    say(f"best validation Dice, at step {best['step']}: {dice_of_heads(heads)}")
    say(f"next: coopseg predict --model {out} SCAN... --out DIR")
    say(f"  or: coopseg evaluate --model {out} --data DATA --split {out} --out DIR")
