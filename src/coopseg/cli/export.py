"""Defines the verb `coopseg export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from coopseg.cli.console import say
from coopseg.cli.options import Refine, ScanStatistics


def export(
    model: Annotated[Path, typer.Option(help="run folder or weight file", show_default=False)],
    out: Annotated[Path, typer.Option(help="file to write, NAME.onnx", show_default=False)],
    format_: Annotated[Literal["onnx"], typer.Option("--format", help="format of the file")] = "onnx",
    refine: Refine = 1,
    scan_statistics: ScanStatistics = None,
) -> None:
    """Write a model as an ONNX file, for programs that have no PyTorch.

    The file takes prepared images and gives class probabilities of the heads, FTN (fast-thinking network) and
    FTN+STN (corrected by the slow-thinking network). It holds settings and class names, so that
    `coopseg predict` and `coopseg evaluate` take it as --model. With scan statistics a batch has to be all
    slices of one volume; --scan-statistics off writes a file without them. Needs
    `pip install "coopseg[onnx]"`.
    """
    from coopseg.inference.export import export as export_model

    path = export_model(model, out, refinements=refine, scan_statistics=scan_statistics)
    say(f"written, and compared with PyTorch: {path}")
    say(f"next: coopseg predict --model {path} SCAN... --out DIR")
