"""Defines options that several verbs share, with one meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from coopseg.training.request import TrainingRequest

SPLITS_HELP = "a split: a name (`coopseg info`), a JSON or YAML file, or a run folder (its training's split)"


def asked(name: str, *flags: str, **more: Any) -> Any:
    """Makes the option for an argument of a training; its help is what TrainingRequest says of it."""
    return typer.Option(*flags, help=TrainingRequest.model_fields[name].description, **more)


Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], asked("device")]
Precision = Annotated[Literal["32", "bf16"], asked("precision")]
Layout = Annotated[str, asked("layout")]
LabelNames = Annotated[str | None, asked("labels", "--labels", show_default=False)]
Set = Annotated[list[str] | None, asked("settings", "--set", metavar="SECTION.KEY=VALUE", show_default=False)]
Part = Annotated[Literal["train", "validate", "test"], typer.Option(help="part of --split to use")]
ModelPath = Annotated[Path, typer.Option(help="run folder or weight file", show_default=False)]
NewFolder = Annotated[Path, typer.Option(help="folder to make", show_default=False)]
ScanStatistics = Annotated[
    str | None,
    typer.Option(
        "--scan-statistics",
        metavar="K|off",
        help="take a share n / (n + K) of the first layers' statistics from the scan, which has n slices; "
        "off: none",
        show_default="the model's prediction.scan_statistics",
    ),
]
Refine = Annotated[int, typer.Option("--refine", min=0, help="how often the STN is applied; 0: FTN alone")]
