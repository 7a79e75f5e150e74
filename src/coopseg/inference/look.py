"""Writes the pages on which a person looks at what `predict` has made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from coopseg.config.settings import CaseSettings
from coopseg.measures.frames import TRUE
from coopseg.measures.function import Cell, in_words
from coopseg.measures.patients import Patient
from coopseg.measures.remarks import Remark
from coopseg.pages.series import Volume
from coopseg.pages.write import INDEX, Beat, Entry, write_patient, write_worklist
from coopseg.quality.calibration import Expected
from coopseg.scans.names import Named, read_name, stem
from coopseg.scans.nifti import read_labels
from coopseg.scans.types import Scan
from coopseg.text import counted

EXPECTED = "Expected Dice"


@dataclass(frozen=True)
class Segmented:
    """Holds a scan whose label map is written.

    file: of the label map. remarks: what to look at in it. read: as `read_source`. expected: Dice of each
    phase, if it is known. called: see `Volume`.
    """

    name: Path
    file: Path
    remarks: tuple[Remark, ...]
    read: Callable[[], tuple[Scan, tuple[str, ...]]]
    expected: tuple[Expected, ...] = ()
    called: tuple[str, ...] = ()


def write_pages(
    out: Path,
    segmented: Sequence[Segmented],
    measured: Sequence[Patient],
    *,
    names: Sequence[str],
    settings: CaseSettings,
    provenance: Mapping[str, str],
    spacing: str = TRUE,
    failed: Sequence[str] = (),
) -> Path:
    """Write OUT/.../PATIENT.html for each patient and OUT/index.html, the list; returns the path of the list.

    Patients are called as in measures.csv. Files that differ only in _ED, _ES or _frameNN at the end are of
    one patient, as in data sets. measured: the patients of the label maps. names: of the class indices.
    provenance: says how the label maps were made, in words. spacing: see `make_series`. failed: a line for
    each scan without one.
    """
    known = {file: one for one in measured for file in one.files}
    patients: dict[tuple[Path, str], list[tuple[Named, Segmented]]] = {}
    for each in segmented:
        named = read_name(stem(each.name))
        patients.setdefault((each.file.parent, _whole(named)), []).append((named, each))
    made = time.strftime("%Y-%m-%d %H:%M")
    entries: list[Entry] = []
    for (folder, name), own in patients.items():
        one = known.get(own[0][1].file)  # a patient who could not be measured has a page all the same
        called = "_".join(part for part in (one.name, one.session) if part) if one else name
        path = folder / f"{called.rpartition('/')[2]}.html"
        below = path.relative_to(out)
        lowest = _find_lowest(own)
        whole = one is not None and [each.file for _, each in own] == list(one.files)
        entry = write_patient(
            path,
            called,
            [_volume(named, each) for named, each in own],
            names=names,
            provenance=[*provenance.items(), ("written", made)],
            notes=one.measured.remarks if one else (),
            beside=one.measured.beside if one else (),
            measures=_in_words(lowest) | (in_words(one.measured) if one else {}),
            expected=lowest.expected.mean if lowest else 1.0,
            beat=_beat(one) if one and whole else Beat(),
            worklist="../" * (len(below.parts) - 1) + INDEX,
            spacing=spacing,
            slice_axis=settings.slice_axis,
        )
        entries.append(replace(entry, link=quote(below.as_posix())))
    title = counted(len(entries), "patient") + (f", {counted(len(failed), 'scan')} failed" if failed else "")
    return write_worklist(out / INDEX, entries, title=title, failed=failed)


@dataclass(frozen=True)
class _Lowest:
    """Holds what is expected of the phase of a patient of which least is; phases are counted from 1."""

    expected: Expected
    phase: int
    phases: int


def _find_lowest(scans: Sequence[tuple[Named, Segmented]]) -> _Lowest | None:
    phases = [expected for _, each in scans for expected in each.expected]
    if not phases:
        return None
    expected, phase = min(
        ((each, number) for number, each in enumerate(phases, 1)), key=lambda it: it[0].mean
    )
    return _Lowest(expected, phase, len(phases))


def _in_words(lowest: _Lowest | None) -> dict[str, Cell]:
    """Returns the lowest expected Dice, and that of each structure."""
    if lowest is None:
        return {}
    where = f"phase {lowest.phase} of {lowest.phases}, the lowest: " if lowest.phases > 1 else ""
    return {EXPECTED: Cell(f"{lowest.expected.mean:.2f}", f"{where}{lowest.expected.describe()}")}


def _beat(patient: Patient) -> Beat:
    how = {"LV volume": "the largest and the smallest LV", "given": "as names or the data set say"}
    found = str(patient.measured.values.get("phases_by") or "")
    return Beat(patient.find_frame("ed"), patient.find_frame("es"), how.get(found, ""))


def _whole(named: Named) -> str:
    return "_".join(part for part in (named.patient, named.session) if part)


def _volume(named: Named, each: Segmented) -> Volume:
    labels = read_labels(each.file).data
    return Volume(stem(each.name), named.phase, each.read()[0], labels, each.remarks, each.called)
