"""Writes a page for each patient, and the list of all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from markupsafe import Markup

from coopseg import __version__
from coopseg.pages import curve
from coopseg.pages.html import environment, script_hash, source, style
from coopseg.pages.series import GREY, LARGEST, Series, SliceAxis, Volume, make_series
from coopseg.scans.files import write_atomically
from coopseg.text import Json

PATIENT, WORKLIST, STYLE, SCRIPT = "patient.html", "worklist.html", "pages.css", "viewer.js"
INDEX = "index.html"


@dataclass(frozen=True)
class Entry:
    """Holds what the list says of a patient. link: to the page, from the list. values: measures by name."""

    patient: str
    link: str
    warnings: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)


def write_patient(
    path: Path,
    patient: str,
    scans: Sequence[Volume],
    *,
    names: Sequence[str],
    provenance: Sequence[tuple[str, str]] = (),
    measures: Mapping[str, str] | None = None,
    worklist: str = "",
    slice_axis: SliceAxis = "auto",
) -> Entry:
    """Write the page of a patient, one HTML file that works without a network; returns its entry in the list.

    scans: of the patient; those in one grid are phases of one series. names: of the class indices, background
    first. provenance: (name, value) pairs that say how the label maps were made. measures: values by name.
    worklist: the address of the list. slice_axis: see `make_series`.
    """
    series = [make_series(group, names, slice_axis=slice_axis) for group in _by_grid(scans)]
    warnings = tuple(
        f"{scan.name}: {line}" if len(scans) > 1 else line for scan in scans for line in scan.warnings
    )
    values = dict(measures or {})
    page = {
        "patient": patient,
        "made": f"coopseg {__version__}",
        "series": series,
        "warnings": warnings,
        "measures": [{"name": name, "value": value} for name, value in values.items()],
        "provenance": provenance,
    }
    start = _start(series)
    data = json.dumps({"series": [asdict(each) for each in series], "start": start}, allow_nan=False)
    script = source(SCRIPT)
    text = environment("coopseg.pages").get_template(PATIENT).render(
        page=page,
        start=start,
        curves=[(curve.draw_volumes(each), each) for each in series],
        box=curve,
        data=Markup(data.replace("<", "\\u003c")),  # so that no name can end the script
        script=script,
        script_hash=script_hash(script),
        style=style() + source(STYLE),
        grey=GREY,
        largest=LARGEST,
        worklist=worklist,
    )  # fmt: skip
    write_atomically(path, text.encode(errors="backslashreplace"))  # a file name need not be Unicode
    return Entry(patient, path.name, warnings, values)


def write_worklist(path: Path, entries: Sequence[Entry], *, title: str, failed: Sequence[str] = ()) -> Path:
    """Write the list of patients, those with most warnings first; returns its path.

    failed: a line for each scan that could not be segmented.
    """
    ordered = sorted(entries, key=lambda entry: (-len(entry.warnings), entry.patient))
    columns = list(dict.fromkeys(name for entry in ordered for name in entry.values))
    text = environment("coopseg.pages").get_template(WORKLIST).render(
        title=title,
        made=f"coopseg {__version__}",
        entries=ordered,
        columns=columns,
        failed=failed,
        style=style() + source(STYLE),
    )  # fmt: skip
    write_atomically(path, text.encode(errors="backslashreplace"))
    return path


def _by_grid(scans: Sequence[Volume]) -> list[list[Volume]]:
    """Groups neighbouring 3-D volumes of one grid; a cine is a group of its own."""

    def grid(volume: Volume) -> object:
        cine = volume.scan.data.ndim == 4 or not volume.phase
        return volume.name if cine else (volume.scan.data.shape, volume.scan.affine.round(3).tolist())

    return [list(group) for _, group in groupby(scans, key=grid)]


def _start(series: Sequence[Series]) -> Json:
    """Returns where the page begins: the first series, its first phase, the slice with most outlines."""
    lengths = [sum(len(path) for _, path in each) for each in series[0].outlines[0]]
    return {"series": 0, "phase": 0, "slice": int(np.argmax(lengths)) if any(lengths) else len(lengths) // 2}
