"""Defines the verb `coopseg measure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from coopseg.cli.console import Anatomy, LabelNames, NewFolder, Volumes, say, tell
from coopseg.errors import PartlyDone
from coopseg.text import counted

if TYPE_CHECKING:
    from coopseg.scans.geometry import SliceAxis

AXES: dict[str, SliceAxis] = {"auto": "auto", "0": 0, "1": 1, "2": 2}


def measure(
    label_maps: Annotated[
        list[str],
        typer.Argument(
            metavar="LABELS...",
            help="NIfTI label maps of any program, folders or patterns; 3-D or 4-D",
            show_default=False,
        ),
    ],
    out: NewFolder,
    labels: LabelNames = None,
    spacing: Volumes = "true",
    slice_axis: Annotated[
        Literal["auto", "0", "1", "2"],
        typer.Option(
            help="stored axis along which slices are stacked; auto: one of length 1, else one 20% coarser "
            "than the others, else the last"
        ),
    ] = "auto",
    body: Annotated[
        Path | None,
        typer.Option(
            help="csv with the columns patient, height_cm and weight_kg, to index by body surface",
            show_default="as ACDC and M&Ms say",
        ),
    ] = None,
    anatomy: Anatomy = False,
) -> None:
    """Measure label maps: volumes, ejection fractions and myocardial mass of each patient.

    NAME_ED and NAME_ES belong to one patient; of a 4-D file, or of NAME_frame01, NAME_frame02, ..., ED is the
    phase with the largest LV and ES that with the smallest, unless the data set names them. Without --labels
    a labels.json or dataset.json beside the label maps, or in the folder above, names their values. OUT gets
    measures.csv, a line a patient, and measures.json, which has every phase too. A cell is empty where a
    number cannot be known, and a note says why. With --anatomy OUT also gets the mended label maps. Patients
    who cannot be measured are named at the end; the exit code is then 1. `coopseg predict` writes the same.
    Research software, not a medical device.
    """
    from coopseg.measures.write import RECORD, TABLE
    from coopseg.measures.write import measure as measure_labels
    from coopseg.results.remarks import remarks_on_measures

    partly = None
    try:
        patients = measure_labels(
            list(label_maps),
            out,
            labels=labels,
            spacing=spacing,
            slice_axis=AXES[slice_axis],
            body=body,
            anatomy=anatomy,
        )
    except PartlyDone as error:
        partly, patients = error, error.done
    tell(remarks_on_measures(out / RECORD))
    say(f"{counted(len(patients), 'patient')} measured: {out / TABLE}")
    if partly:
        raise partly
