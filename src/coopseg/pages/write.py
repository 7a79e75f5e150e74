"""Writes a page for each patient, and the list of all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from markupsafe import Markup

from coopseg import __version__
from coopseg.measures.frames import TRUE
from coopseg.measures.function import NO_VALUE, Cell
from coopseg.measures.remarks import Order, Remark
from coopseg.pages import curve
from coopseg.pages.html import environment, script_hash, source, style
from coopseg.pages.series import GREY, LARGEST, Series, Volume, make_series
from coopseg.scans.files import write_atomically
from coopseg.scans.geometry import SliceAxis
from coopseg.text import Json, counted

PATIENT, WORKLIST, STYLE, SCRIPT = "patient.html", "worklist.html", "pages.css", "viewer.js"
INDEX = "index.html"


@dataclass(frozen=True)
class Entry:
    """Holds what the list says of a patient.

    link: to the page, from the list. warnings: a line each, in their `Order`. missing, doubted, kinds: how
    many kinds of warnings, those of structures not found, those of doubt and all. expected: the lowest Dice
    expected of a phase, 1 if that is not known. phases: how many the warnings concern, and of how
    many. values: measures by name.
    """

    patient: str
    link: str
    warnings: tuple[str, ...] = ()
    missing: int = 0
    doubted: int = 0
    expected: float = 1.0
    kinds: int = 0
    phases: tuple[int, int] = (0, 1)
    values: Mapping[str, Cell] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[float, ...]:
        """Returns by what the list is sorted, least first."""
        concerned, total = self.phases
        return -self.missing, -self.doubted, self.expected, -self.kinds, -concerned / total

    @property
    def summary(self) -> str:
        """Says how much there is to look at, and what comes first; "" if nothing does."""
        concerned, total = self.phases
        where = f" in {concerned} of {total} phases" if concerned and total > 1 else ""
        return f"{counted(self.kinds, 'kind')}{where}: {self.warnings[0]}" if self.warnings else ""


@dataclass(frozen=True)
class Beat:
    """Says which phases were taken for end diastole and end systole, None for none.

    ed, es: counted from 0 through all scans of the patient. how: they were found.
    """

    ed: int | None = None
    es: int | None = None
    how: str = ""


def write_patient(
    path: Path,
    patient: str,
    scans: Sequence[Volume],
    *,
    names: Sequence[str],
    provenance: Sequence[tuple[str, str]] = (),
    notes: Sequence[Remark] = (),
    beside: Sequence[str] = (),
    measures: Mapping[str, Cell] | None = None,
    expected: float = 1.0,
    beat: Beat = Beat(),
    worklist: str = "",
    spacing: str = TRUE,
    slice_axis: SliceAxis = "auto",
) -> Entry:
    """Write the page of a patient, one HTML file that works without a network; returns its entry in the list.

    scans: of the patient; those in one grid are phases of one series. names: of the class indices, background
    first. provenance: (name, value) pairs that say how the label maps were made. notes: what to look at about
    the patient as a whole. beside: lines that go with the numbers. measures: values by name. expected: see
    `Entry`. beat: ED and ES. worklist: the address of the list. spacing, slice_axis: see `make_series`.
    """
    series = [make_series(group, names, spacing=spacing, slice_axis=slice_axis) for group in _by_grid(scans)]
    values = dict(measures or {})
    total = sum(len(each.phases) for each in series)
    entry = _make_entry(patient, path.name, scans, notes, total=total, values=values)
    entry = replace(entry, expected=expected)
    page = {
        "patient": patient,
        "made": f"coopseg {__version__}",
        "series": series,
        "warnings": entry.warnings,
        "measures": values,
        "beside": beside,
        "provenance": provenance,
    }
    marks = _marks(series, beat)
    start = _start(series, marks)
    shown = {"series": [asdict(each) for each in series], "marks": marks, "start": start}
    data = json.dumps(shown, allow_nan=False)
    script = source(SCRIPT)
    text = environment("coopseg.pages").get_template(PATIENT).render(
        page=page,
        start=start,
        curves=[
            (curve.draw_volumes(each, {m["name"]: m["phase"] for m in marks if m["series"] == number}), each)
            for number, each in enumerate(series)
        ],
        marks=marks,
        how=beat.how,
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
    return entry


def write_worklist(path: Path, entries: Sequence[Entry], *, title: str, failed: Sequence[str] = ()) -> Path:
    """Write the list of patients, sorted by `Entry.rank`; returns its path.

    failed: a line for each scan that could not be segmented.
    """
    ordered = sorted(entries, key=lambda entry: (entry.rank, entry.patient))
    columns = list(dict.fromkeys(name for entry in ordered for name in entry.values))
    text = environment("coopseg.pages").get_template(WORKLIST).render(
        title=title,
        made=f"coopseg {__version__}",
        entries=ordered,
        columns=columns,
        unmeasured=Cell(NO_VALUE, "not measured"),
        failed=failed,
        style=style() + source(STYLE),
    )  # fmt: skip
    write_atomically(path, text.encode(errors="backslashreplace"))
    return path


def _make_entry(
    patient: str,
    link: str,
    scans: Sequence[Volume],
    notes: Sequence[Remark],
    *,
    total: int,
    values: Mapping[str, Cell],
) -> Entry:
    """Returns what the list says of a patient with `total` phases."""
    remarks = [(f"{scan.name}: " * (len(scans) > 1), each) for scan in scans for each in scan.remarks]
    remarks += [("", each) for each in notes]

    def kinds(order: Order) -> int:
        return len({each.kind for _, each in remarks if each.order == order})

    return Entry(
        patient,
        link,
        tuple(name + each.text for name, each in sorted(remarks, key=lambda pair: pair[1].order)),
        missing=kinds(Order.NOT_FOUND),
        doubted=kinds(Order.DOUBTED),
        kinds=len({each.kind for _, each in remarks}),
        phases=(len({(name, phase) for name, each in remarks for phase in each.phases}), total),
        values=values,
    )


def _by_grid(scans: Sequence[Volume]) -> list[list[Volume]]:
    """Groups neighbouring 3-D volumes of one grid; a cine is a group of its own."""

    def grid(volume: Volume) -> object:
        cine = volume.scan.data.ndim == 4 or not volume.phase
        return volume.name if cine else (volume.scan.data.shape, volume.scan.affine.round(3).tolist())

    return [list(group) for _, group in groupby(scans, key=grid)]


def _marks(series: Sequence[Series], beat: Beat) -> list[Json]:
    """Returns where ED and ES are: the number of the series and of the phase in it, and both in words."""
    places = [(number, phase) for number, each in enumerate(series) for phase in range(len(each.phases))]
    marks: list[Json] = []
    for name, index in (("ED", beat.ed), ("ES", beat.es)):
        if index is not None:
            number, phase = places[index]
            words = [series[number].name] * (len(series) > 1)
            words += [f"phase {phase + 1}"] * (len(series) == 1 or len(series[number].phases) > 1)
            marks.append({"name": name, "series": number, "phase": phase, "where": ", ".join(words)})
    return marks


def _start(series: Sequence[Series], marks: Sequence[Json]) -> Json:
    """Returns where the page begins: at ED, else at the first phase; the slice with most outlines."""
    number, phase = next(((m["series"], m["phase"]) for m in marks if m["name"] == "ED"), (0, 0))
    lengths = [sum(len(path) for _, path in each) for each in series[number].outlines[phase]]
    most = int(np.argmax(lengths)) if any(lengths) else len(lengths) // 2
    return {"series": number, "phase": phase, "slice": most}
