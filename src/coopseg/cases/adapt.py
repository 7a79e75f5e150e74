"""Chooses spacing, crop and intensity rule from a data set, as plain settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, sqrt

import numpy as np

from coopseg.cases.lost import MOST_LOST
from coopseg.cases.prepare import AIR, make_plan
from coopseg.cases.steps import overlap
from coopseg.config.section import Value
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.geometry import find_orientation
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.nifti import read_header
from coopseg.scans.types import Dataset, Scan, ScanRef
from coopseg.text import counted

STEP = 16  # pixels; the networks halve an image four times
SIDES = range(STEP, 4096 + STEP, STEP)
ROOM = 1.1  # of the side that is needed here, for structures of other patients
MOSTLY = 0.9  # share of the scans that have to be in Hounsfield units
LEAST, GREATEST = -4096, 16384  # Hounsfield units that are counted; scanners store 12 to 14 bits


@dataclass(frozen=True)
class Adapted:
    """Holds the settings that were chosen, by name, and a line that says so."""

    settings: dict[str, Value]
    line: str


def adapt_cases(
    dataset: Dataset,
    settings: CaseSettings,
    *,
    patients: Collection[str],
    given: Collection[str] = (),
    whose: str = "",
) -> Adapted:
    """Choose cases.spacing, cases.size and, for CT, cases.window from labelled scans.

    The spacing is the median of the scans' pixels. The crop is the smallest square that cuts at most
    MOST_LOST of each class, and a tenth more. If the scans are in Hounsfield units, the window clips at most
    MOST_LOST of each class, and slices are not scaled one by one, so that a value means the same everywhere;
    other scans keep the percentiles. patients: whose scans are looked at. given: names of settings that stay.
    whose: says which patients these are, for the line.
    Raises CoopsegError if no scan has a label, and as reading does.
    """
    refs = [ref for ref in dataset.items if ref.patient in patients and ref.label]
    if not refs:
        raise CoopsegError(f"{dataset.root}: no labelled scan to adapt to; add label maps")
    if "cases.spacing" not in given:
        settings = settings.model_copy(update={"spacing": _median_spacing(refs, settings)})
    seen = _Seen(dataset.labels.names)
    for scan, label in _read(refs, dataset):
        seen.add(scan, label, settings)
    if not seen.whole[1:].any():
        raise CoopsegError(f"{dataset.root}: no label map holds a structure to adapt to; draw some")
    side = ceil(ROOM * seen.side() / STEP) * STEP
    found: dict[str, Value] = {"cases.spacing": settings.spacing, "cases.size": (side, side)}
    if seen.cold >= MOSTLY * len(refs) and not any(ref.normalised for ref in refs):
        found |= {"cases.window": seen.window(), "cases.slice_minmax": False}
    chosen = {name: value for name, value in found.items() if name not in given}
    listed = (f"{name}={list(v) if isinstance(v, tuple) else v}" for name, v in chosen.items())
    kind = "Hounsfield units" if "cases.window" in found else "no Hounsfield units"
    scans = (
        f"{counted(len(refs), 'scan')} of {whose or counted(len({ref.patient for ref in refs}), 'patient')}"
    )
    return Adapted(chosen, f"adapted to {scans} ({kind}): {', '.join(listed)}")


def _median_spacing(refs: Sequence[ScanRef], settings: CaseSettings) -> float:
    sides = []
    for ref in refs:
        header = read_header(ref.image)
        orientation = find_orientation(header.affine, header.shape, slice_axis=settings.slice_axis)
        _, rows, columns = orientation.spacing(np.linalg.norm(header.affine[:3, :3], axis=0))
        sides.append(sqrt(rows * columns))
    return float(f"{np.median(sides):.6g}")


def _read(refs: Sequence[ScanRef], dataset: Dataset) -> Iterator[tuple[Scan, np.ndarray]]:
    for ref in refs:
        scan, label = load_scan(ref), load_label(ref)
        assert label is not None  # only labelled ones are looked at
        names = dataset.labels.names
        yield scan, labels_to_indices(label.data, dataset.labels, names=names, path=ref.label)


class _Seen:
    """Gathers where the classes of all scans lie and how bright they are, one scan at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        self.classes = len(names)
        self.whole = np.zeros(self.classes, np.int64)
        self.kept = np.zeros((len(SIDES), self.classes), np.int64)  # within a square of each side
        self.intensities = np.zeros((self.classes, GREATEST - LEAST), np.int64)
        self.cold = 0  # scans with values of air in every channel, which no scan but CT has

    def add(self, scan: Scan, label: np.ndarray, settings: CaseSettings) -> None:
        """Counts the pixels of each class within squares of every side, and their intensities."""
        labels = make_plan(scan, settings, size=settings.size).resample(label)
        plane = np.stack([(labels == index).sum(axis=0) for index in range(self.classes)])
        self.whole += plane.sum(axis=(1, 2))
        for place, side in enumerate(SIDES):
            (rows, columns), _ = overlap(plane.shape[1:], (side, side))
            self.kept[place] += plane[:, rows, columns].sum(axis=(1, 2))
        if all(channel.data.min() < AIR for channel in scan.channels):
            self.cold += 1
            for channel, index in product(scan.channels, range(1, self.classes)):
                values = np.rint(channel.data[label == index]).astype(np.int64).clip(LEAST, GREATEST - 1)
                self.intensities[index] += np.bincount(values - LEAST, minlength=GREATEST - LEAST)

    def side(self) -> int:
        """Returns the least side of a square that cuts at most MOST_LOST of each foreground class."""
        enough = (self.whole - self.kept <= MOST_LOST * self.whole)[:, 1:].all(axis=1)
        return SIDES[int(enough.argmax())]

    def window(self) -> tuple[int, int]:
        """Returns intensities between which all but MOST_LOST of each class lie, half of it on each side."""
        counts = self.intensities[1:].cumsum(axis=1)
        counts = counts[counts[:, -1] > 0]
        share = counts / counts[:, -1:]
        low = int((share > MOST_LOST / 2).argmax(axis=1).min())
        high = int((share >= 1 - MOST_LOST / 2).argmax(axis=1).max())
        return LEAST + low - 1, LEAST + high + 1  # a bin holds what rounds to it
