"""Reads label maps and measures them by patient: NAME_ED and NAME_ES, frames of a beat, or a 4-D file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from coopseg.errors import CoopsegError, enough_memory
from coopseg.measures.anatomy import left_out
from coopseg.measures.frames import TRUE, Frame, count_frame
from coopseg.measures.function import ED, ES, Body, Measured, measure_patient
from coopseg.measures.mending import mend_heads
from coopseg.scans.discover import unmarked
from coopseg.scans.geometry import SliceAxis
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts.cardiac import Examination, find_examination
from coopseg.scans.names import Named, read_name, stem
from coopseg.scans.nifti import read_labels, write_labels
from coopseg.scans.types import Labels, Scan
from coopseg.text import listing, whole_number


@dataclass(frozen=True)
class LabelMap:
    """Names a label map and what is known of it.

    file: to read. scan: whose name says patient and phase, the label map itself where there is no scan.
    labels: what the values mean. others: whether values without a name are background. body: as the header
    of the scan says, for where the data set says nothing. mended: where it is written mended, before it is
    measured; None to measure it as it is.
    """

    file: Path
    scan: Path
    labels: Labels
    others: bool = False
    body: Body = field(default_factory=Body)
    mended: Path | None = None

    @property
    def name(self) -> str:
        """Returns the name of the scan, without a mark of a label map or of nnU-Net's first channel."""
        return (unmarked(self.scan) or stem(self.scan)).removesuffix("_0000")


@dataclass(frozen=True)
class Patient:
    """Holds what was measured of a patient, or of one visit.

    name, session: as the names of the files say. files: the label maps. frames: what was counted in them.
    measured: what follows from these.
    """

    name: str
    session: str
    files: tuple[Path, ...]
    frames: tuple[Frame, ...]
    measured: Measured

    def find_frame(self, phase: str) -> int | None:
        """Returns which frame, counted from 0, was taken for "ed" or "es"; None if none was."""
        name = self.measured.values.get(phase)
        return next((index for index, frame in enumerate(self.frames) if frame.name == name), None)


def measure_maps(
    maps: Sequence[LabelMap],
    names: Sequence[str],
    *,
    spacing: str = TRUE,
    slice_axis: SliceAxis = "auto",
    bodies: Mapping[str, Body] | None = None,
) -> tuple[list[Patient], list[CoopsegError]]:
    """Measures the patients of label maps; returns them in order, and an error for each that is left out.

    names: of the classes, background first, those of every map among them. spacing, slice_axis: see
    `count_frame`. bodies: of patients by name; by default as their data set says. Files in one folder whose
    names hold the same patient and visit belong together. A label map that cannot be read takes its patient
    with it: numbers of half a patient would look like those of a whole one.
    """
    groups: dict[tuple[str, Named], list[LabelMap]] = {}
    for entry in maps:
        who = read_name(entry.name)._replace(phase="")
        groups.setdefault((os.path.abspath(entry.scan.parent), who), []).append(entry)
    found: list[Patient] = []
    failed: list[CoopsegError] = []
    for (_, who), entries in groups.items():
        try:
            found.append(_measure(who, entries, names, spacing, slice_axis, bodies))
        except CoopsegError as error:
            failed.append(error)
    return _told_apart(found), failed


def _measure(
    who: Named,
    entries: Sequence[LabelMap],
    names: Sequence[str],
    spacing: str,
    slice_axis: SliceAxis,
    bodies: Mapping[str, Body] | None,
) -> Patient:
    known, odd = _look_up(entries[0].scan)
    frames: list[Frame] = []
    for entry in entries:
        with enough_memory("measuring", entry.file):
            frames += _frames(entry, known, names, spacing, slice_axis)
    for phase in (ED, ES):
        if len(twice := [frame.name for frame in frames if frame.phase == phase]) > 1:
            raise CoopsegError(
                f"{entries[0].file}: {phase} of {who.patient} is there twice ({listing(twice)}); measure the "
                "one or the other"
            )
    name = known.patient if known and who.patient == f"{known.patient}_sa" else who.patient  # M&Ms
    body = Body(known.height_cm, known.weight_kg) if known else entries[0].body
    if bodies is not None:
        body = bodies.get(name, Body())
        odd += () if name in bodies else ("not in the table of heights and weights",)
    measured = measure_patient(frames, names, body)
    files = tuple(entry.file for entry in entries)
    return Patient(name, who.session, files, tuple(frames), replace(measured, lines=odd + measured.lines))


def _look_up(scan: Path) -> tuple[Examination | None, tuple[str, ...]]:
    """Returns what the data set of a scan knows of the patient, and a line if that cannot be read."""
    try:
        return find_examination(scan), ()
    except CoopsegError as error:
        return None, (str(error),)


def _frames(
    entry: LabelMap,
    known: Examination | None,
    names: Sequence[str],
    spacing: str,
    slice_axis: SliceAxis,
) -> Iterator[Frame]:
    """Yields what is counted in each frame of a file."""
    scan = read_labels(entry.file)
    data, lines = _as_indices(entry, scan.data, names)
    if entry.mended:
        data, more = _mend(entry, entry.mended, scan, data, names, spacing, slice_axis)
        lines += more
    called = read_name(entry.name).phase
    indices: Sequence[int | None] = range(data.shape[3]) if data.ndim == 4 else [None]
    for index in indices:
        frame = count_frame(
            data if index is None else data[..., index],
            names,
            scan.affine,
            name=entry.name if index is None else f"{entry.name}, phase {index + 1}",
            phase=_phase(called, index, known),
            spacing=spacing,
            slice_axis=slice_axis,
        )
        yield replace(frame, lines=lines + frame.lines)


def _mend(
    entry: LabelMap,
    file: Path,
    scan: Scan,
    data: np.ndarray,
    names: Sequence[str],
    spacing: str,
    slice_axis: SliceAxis,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Mends class indices; writes the label map with its own values; returns the mended and what changed."""
    maps, changes = mend_heads({"": data}, names, scan.affine, spacing=spacing, slice_axis=slice_axis)
    mended, values = maps[""], np.zeros(len(names), scan.data.dtype)
    values[[names.index(name) for name in entry.labels.names]] = entry.labels.values
    write_labels(file, np.where(mended == data, scan.data, values[mended]), like=scan)
    rule = left_out(names)
    return mended, (*((f"anatomy: {rule}",) if rule else ()), *(each.text for each in changes))


def _as_indices(
    entry: LabelMap, data: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns class indices into `names`, and a line on values that are taken for background."""
    lines: tuple[str, ...] = ()
    own = entry.labels
    if entry.others and (other := sorted(set(np.unique(data).tolist()) - set(own.values))):
        data = np.where(np.isin(data, other), own.values[0], data)
        lines = (f"--labels does not name {listing(list(map(str, other)))}, taken as background",)
    indices = labels_to_indices(data, own, names=own.names, path=entry.file)
    return np.array([names.index(name) for name in own.names], np.uint8)[indices], lines


def _phase(called: str, index: int | None, known: Examination | None) -> str:
    """Returns "ED" or "ES" if the file's name or the data set says so, else "".

    called: the phase in the name, such as "ED" or "frame07", whose number counts from 1.
    """
    if called in (ED, ES) and index is None:
        return called
    if index is None and (number := whole_number(called.lower().removeprefix("frame"))) is not None:
        index = number - 1
    frames = {known.ed: ED, known.es: ES} if known and index is not None else {}
    return frames.get(index, "") if index is not None else ""


def _told_apart(patients: Sequence[Patient]) -> list[Patient]:
    """Puts the folder before the names of patients that would be called the same."""
    counts = Counter((patient.name, patient.session) for patient in patients)
    folders = [os.path.abspath(patient.files[0].parent) for patient in patients]
    shared = os.path.commonpath(folders) if folders else ""
    return [
        replace(patient, name=f"{os.path.relpath(folder, shared)}/{patient.name}")
        if counts[patient.name, patient.session] > 1
        else patient
        for patient, folder in zip(patients, folders, strict=True)
    ]
