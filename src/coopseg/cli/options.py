"""Defines options that several verbs share, with one meaning."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from coopseg.config.methods import METHODS, RIVALS

METHOD_HELP = (
    f"which losses to train with: {', '.join(METHODS)}; a rival: {', '.join(RIVALS)}, or your own as "
    "module:class; or METHOD+RIVAL"
)
SPLITS_HELP = "a split: a name (`coopseg info`), a JSON or YAML file, or a run folder (its training's split)"

Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option(help="where to compute; auto takes the fastest device there is"),
]
Precision = Annotated[
    Literal["32", "bf16"], typer.Option(help="bf16 is mixed precision, faster where supported")
]
Layout = Annotated[
    str, typer.Option(help="how the data set is laid out (`coopseg info` lists layouts); auto recognises it")
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help='names of the label values, e.g. "LV=1,MYO=2,RV=3"; several data sets keep names of their own',
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="change a setting; may be repeated; `coopseg info --settings` lists all",
        show_default=False,
    ),
]
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
