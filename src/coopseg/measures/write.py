"""Implements `measure`: finds label maps, measures their patients, writes measures.csv and measures.json."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from coopseg.errors import CoopsegError, PartlyDone, first_of
from coopseg.measures.bodies import read_bodies
from coopseg.measures.frames import TRUE, Frame, check_spacing
from coopseg.measures.function import Body, columns, is_heart
from coopseg.measures.patients import LabelMap, Patient, measure_maps
from coopseg.scans.discover import expand_label_maps
from coopseg.scans.files import new_folder, write_atomically, write_json
from coopseg.scans.geometry import SliceAxis
from coopseg.scans.labels import canonical_name, parse_label_names
from coopseg.scans.layouts.cardiac import find_examination
from coopseg.scans.layouts.described import labels_beside
from coopseg.scans.types import Labels
from coopseg.text import Json, listing, spreadsheet_safe
from coopseg.versions import versions

TABLE, RECORD = "measures.csv", "measures.json"
DISCLAIMER = "Research software, not a medical device"


def measure(
    label_maps: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    labels: str | None = None,
    spacing: str = TRUE,
    slice_axis: SliceAxis = "auto",
    body: str | Path | None = None,
    anatomy: bool = False,
) -> list[Patient]:
    """Measure label maps of any program, and write measures.csv and measures.json into `out`.

    label_maps: files, folders and patterns, see `expand_label_maps`; 3-D or 4-D. out: new or empty folder.
    labels: "LV=1,MYO=2,RV=3", values that it does not name are background; by default a labels.json or
    dataset.json beside the label maps, or above up to the folder over the given one, says what the values
    mean, else the data set if it is ACDC or M&Ms. spacing: "nominal" if the headers hold no true spacing;
    then there are ratios alone. slice_axis: the stored axis along which slices are stacked, where it is not
    that of length 1, the coarsest or else the last. body: table of heights and weights, see `read_bodies`;
    by default those that ACDC and M&Ms give. anatomy: mend the label maps before they are measured, see
    `mend`; notes say what was changed. `out` also gets the mended ones, each at its path below the folder
    that all share, with the values that it had.
    ED and ES are those that file names (NAME_ED, NAME_ES), ACDC's Info.cfg or M&Ms' table say, else the
    phases with the largest and the smallest LV. See `coopseg.measures.function` for what is computed.
    Raises CoopsegError if nothing can be measured, and PartlyDone, when the others are measured, if only
    some patients cannot.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=1, size=48)["acdc"]
    >>> (patient,) = measure(scans, folder / "measures")
    >>> patient.name, patient.measured.values["phases_by"], (folder / "measures" / "measures.csv").is_file()
    ('patientP001', 'given', True)
    """
    check_spacing(spacing)
    given = parse_label_names(labels) if labels else None
    bodies = read_bodies(Path(body)) if body else None
    listed = [label_maps] if isinstance(label_maps, str | Path) else label_maps
    maps, failed = dict[Path, LabelMap](), list[CoopsegError]()
    for entry in map(Path, listed):
        for file in expand_label_maps(entry):
            try:
                meaning = given or _labels_of(file, entry if entry.is_dir() else file.parent)
                maps[file] = LabelMap(file, file, meaning, others=given is not None)
            except CoopsegError as error:
                failed.append(error)
    names = tuple(dict.fromkeys(name for entry in maps.values() for name in entry.labels.names))
    with new_folder(Path(out)) as folder:
        entries = _to_mend(list(maps.values()), folder) if anatomy else list(maps.values())
        patients, unread = measure_maps(entries, names, spacing=spacing, slice_axis=slice_axis, bodies=bodies)
        failed += unread
        if not patients:
            raise first_of(failed)
        write_measures(folder, patients, names, failed=failed, spacing=spacing)
    if failed:
        raise PartlyDone(failed, patients, Path(out), len(patients) + len(failed), then="measure again")
    return patients


def _to_mend(maps: Sequence[LabelMap], folder: Path) -> list[LabelMap]:
    """Returns label maps with the place of each mended one, at its path below the folder that all share."""
    full = [Path(os.path.abspath(each.file)) for each in maps]
    shared = os.path.commonpath([file.parent for file in full]) if full else ""
    return [
        replace(each, mended=folder / file.relative_to(shared)) for each, file in zip(maps, full, strict=True)
    ]


def measure_predictions(
    out: Path,
    maps: Sequence[tuple[Path, Path]],
    names: Sequence[str],
    *,
    spacing: str = TRUE,
    slice_axis: SliceAxis = "auto",
    bodies: Mapping[Path, Body] | None = None,
) -> list[Patient]:
    """Writes the measures of predicted label maps into their folder, and returns them.

    maps: scan and label map of each. names: of the classes, background first. slice_axis: see `measure`.
    bodies: height and weight that the headers of scans say.
    """
    names = tuple(map(canonical_name, names))
    labels = Labels(names, tuple(range(len(names))))
    patients, failed = measure_maps(
        [LabelMap(file, scan, labels, body=(bodies or {}).get(scan, Body())) for scan, file in maps],
        names,
        spacing=spacing,
        slice_axis=slice_axis,
    )
    write_measures(out, patients, names, failed=failed, spacing=spacing)
    return patients


def _labels_of(file: Path, below: Path) -> Labels:
    """Finds out what the values in a label map mean, from its folder up to that above `below`.

    Raises CoopsegError if nothing says it.
    """
    last = below.absolute().parent
    for folder in (each for each in file.absolute().parents if each.is_relative_to(last)):
        if labels := labels_beside(folder):
            return labels
    known = find_examination(file)
    if known is None:
        raise CoopsegError(
            f"{file}: nothing says what its values mean; name them, as --labels LV=1,MYO=2,RV=3"
        )
    return known.labels


def write_measures(
    out: Path,
    patients: Sequence[Patient],
    names: Sequence[str],
    *,
    failed: Sequence[CoopsegError] = (),
    spacing: str = TRUE,
) -> None:
    """Write measures.csv, a line a patient, and measures.json, which has every phase too, into `out`."""
    moving = is_heart(names) and all(len(patient.frames) > 1 for patient in patients)
    volumes = {f"{name}_ml" for name in names[1:]} if moving else set()  # which are for those with one phase
    shown = [column for column in columns(names) if column not in volumes]
    head = ("patient", "session", "label_maps", "phases", *shown, "notes", "disclaimer")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(spreadsheet_safe, head))
    for patient in patients:
        own = (patient.name, patient.session, len(patient.files), len(patient.frames))
        values = (show_value(patient.measured.values[name], name) for name in shown)
        elsewhere = () if moving else _volumes_elsewhere(patient)
        notes = "; ".join((*patient.measured.notes, *elsewhere))
        writer.writerow(map(spreadsheet_safe, (*own, *values, notes, DISCLAIMER)))
    # a file name need not be Unicode
    write_atomically(out / TABLE, text.getvalue().encode(errors="backslashreplace"))
    record = {
        "disclaimer": DISCLAIMER,
        "versions": versions(),
        "spacing": spacing,
        "structures": list(names[1:]),
        "patients": [_entry(patient, out) for patient in patients],
        "failed": [str(error) for error in failed],
    }
    write_json(out / RECORD, record)


def show_value(value: float | str | None, column: str) -> str:
    """Writes a cell: one decimal, two for the body's surface; two digits of what is less than 1.

    >>> show_value(61.27, "lv_ef_percent"), show_value(1.9342, "bsa_m2"), show_value(0.0416, "tumour_ml")
    ('61.3', '1.93', '0.042')
    """
    if not isinstance(value, float):
        return value or ""
    if 0 < abs(value) < 1:
        return f"{value:.2g}"
    return f"{value:.{2 if column == 'bsa_m2' else 1}f}"


def _volumes_elsewhere(patient: Patient) -> tuple[str, ...]:
    """Says where the volumes of a patient with several phases are, whose cells NAME_ml are empty."""
    frames = patient.frames
    if len(frames) < 2 or not any(frame.scaled for frame in frames):
        return ()
    cells = listing([f"{name}_ml" for name in frames[0].voxels])
    return (f"{cells} are for patients with one phase; the volumes of its {len(frames)} are in {RECORD}",)


def _entry(patient: Patient, out: Path) -> Json:
    """Describes a patient; label maps below `out` are named from there, so that the folder can be moved."""
    files = [file.relative_to(out) if file.is_relative_to(out) else file for file in patient.files]
    return {
        "patient": patient.name,
        "session": patient.session,
        "label_maps": [str(file) for file in files],
        "measures": patient.measured.values,
        "phases": [_phase_entry(frame) for frame in patient.frames],
        "notes": patient.measured.lines,
        "slices": patient.measured.slices,
    }


def _phase_entry(frame: Frame) -> Json:
    slices = frame.slices
    return {
        "name": frame.name,
        "phase": frame.phase,
        "voxels": dict(frame.voxels),
        "ml": {name: frame.ml(name) for name in frame.voxels},
        "slices": None
        if slices is None
        else {
            "total": slices.total,
            "with_lv": slices.filled,
            "mostly_without_myocardium": slices.bare,
            "missed_between": slices.missed,
        },
    }
