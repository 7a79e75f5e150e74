"""Options that several verbs share, with one meaning."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from coopseg.config.presets import METHODS, RIVALS

METHOD_HELP = (
    f"with which losses: {', '.join(METHODS)}; a rival: {', '.join(RIVALS)}, or module:class of your own; "
    "or METHOD+RIVAL"
)
SPLITS_HELP = "a split: a name (`coopseg info`), a JSON or YAML file, or a run folder for that training's"

Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option(help="where to compute; auto takes the fastest there is"),
]
Precision = Annotated[
    Literal["32", "bf16"], typer.Option(help="bf16: mixed precision, faster where supported")
]
Layout = Annotated[
    str, typer.Option(help="how the data set is laid out (`coopseg info`); auto recognises it")
]
LabelNames = Annotated[
    str | None,
    typer.Option("--labels", help='meaning of the label values, as "LV=1,MYO=2,RV=3"', show_default=False),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="change a setting, may be repeated; `coopseg info --settings` lists all",
        show_default=False,
    ),
]
ScanStatistics = Annotated[
    str | None,
    typer.Option(
        "--scan-statistics",
        metavar="K|off",
        help="n / (n + K) of the first layers' statistics come from the scan of n slices itself; off: none",
        show_default="as the model's prediction.scan_statistics",
    ),
]
Refine = Annotated[int, typer.Option("--refine", min=0, help="times the STN is applied; 0: FTN alone")]
