"""Defines the verbs that use a model: `coopseg predict` and `coopseg export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from coopseg.cli.console import (
    Anatomy,
    Device,
    ModelPath,
    NewFolder,
    Precision,
    Quality,
    Refine,
    Resume,
    ScanStatistics,
    Trust,
    Volumes,
    note,
    say,
    tell,
    warn,
)
from coopseg.errors import PartlyDone
from coopseg.text import counted

if TYPE_CHECKING:
    from coopseg.inference.predict import Predicted

Head = Annotated[
    Literal["FTN", "FTN+STN", "both"] | None,
    typer.Option(
        help="head whose label maps to write; both: NAME_ftn.nii.gz and NAME_stn.nii.gz",
        show_default="the model's prediction.head",
    ),
]


def predict(
    scans: Annotated[
        list[str],
        typer.Argument(
            metavar="SCAN...",
            help="NIfTI files, folders or patterns; folders or zip files of DICOM; 3-D or 4-D",
            show_default=False,
        ),
    ],
    model: ModelPath,
    out: NewFolder,
    refine: Refine = 1,
    head: Head = None,
    device: Device = "auto",
    precision: Precision = "32",
    scan_statistics: ScanStatistics = None,
    trust: Trust = None,
    resume: Resume = False,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom", help="also write what was made of DICOM as DICOM, SEG and SR, into OUT/dicom"
        ),
    ] = False,
    page: Annotated[
        bool,
        typer.Option(
            "--page",
            help="also write a page for each patient, with slices, outlines and volumes, and index.html",
        ),
    ] = False,
    anatomy: Anatomy = False,
    spacing: Volumes = "true",
    quality: Quality = True,
) -> None:
    """Write label maps of scans, each in the scan's own grid.

    The heads are FTN (fast-thinking network) and FTN+STN (corrected by the slow-thinking network). OUT gets
    NAME.nii.gz for each scan (uint8; in the scan's sub-folder below the folder that all scans share),
    labels.json with the names and colours of the values, measures.csv with volumes, ejection fractions and
    mass of each patient, predict.json, and done.jsonl, which lists what is done as it is done: after a stop
    --resume goes on. Scans that cannot be used are named at the end; the
    exit code is then 1. If no scan can be used, nothing is written.
    """
    from coopseg.inference.predict import OBJECTS, RECORD
    from coopseg.inference.predict import predict as predict_scans
    from coopseg.measures.write import RECORD as MEASURES
    from coopseg.measures.write import TABLE
    from coopseg.pages.write import INDEX
    from coopseg.results.remarks import remarks_on_measures, remarks_on_predictor

    partly = None
    try:
        written = predict_scans(
            model,
            list(scans),
            out,
            head=head,
            refinements=refine,
            device=device,
            precision=precision,
            scan_statistics=scan_statistics,
            trust=trust or (),
            resume=resume,
            page=page,
            dicom=dicom,
            anatomy=anatomy,
            spacing=spacing,
            quality=quality,
            progress=_report,
            note=note,
        )
    except PartlyDone as error:
        partly, written = error, list(error.done)
    tell(remarks_on_predictor(out / RECORD))
    tell(remarks_on_measures(out / MEASURES))
    say(f"{counted(len(written), 'label map')} in {out}; their values are named in {out / 'labels.json'}")
    say(f"volumes, ejection fractions, mass: {out / TABLE}")
    if dicom:
        made = len(list((out / OBJECTS).rglob("*.dcm")))
        if made:
            say(f"DICOM: {counted(made, 'object')}, SEG and SR, in {out / OBJECTS}")
        else:
            warn("no scan was DICOM, so --dicom wrote nothing")
    if page:
        say(f"pages: open {out / INDEX}")
    if partly:
        raise partly


def _report(done: Predicted) -> None:
    from coopseg.results.remarks import remark_on_scan

    expected = min(done.found.expected, key=lambda each: each.mean, default=None)
    lowest = "" if len(done.found.expected) < 2 else "lowest "
    quality = f", {lowest}expected Dice {expected.describe()}" if expected else ""
    quality += ", flagged" if done.found.flagged else ""
    note(f"{done.number} of {done.total}: {done.shown} ({done.seconds:.1f} s){quality}")
    if done.warnings:
        warn(remark_on_scan(done.shown, done.warnings, "predict.json"))


def export(
    model: ModelPath,
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
