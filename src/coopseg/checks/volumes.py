"""Reads every file once: finds what is wrong with it and keeps what is needed to compare it with others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from coopseg.checks.faults import check_header, check_values, check_voxels, fingerprint
from coopseg.checks.rules import Fault, Finding, fault_of, relative
from coopseg.errors import CoopsegError
from coopseg.scans.geometry import find_slice_axis
from coopseg.scans.header import Header
from coopseg.scans.load import check_grid, frame_index
from coopseg.scans.nifti import read_header, read_image, read_labels
from coopseg.scans.types import Labels, Scan, ScanRef


@dataclass(frozen=True)
class Volume:
    """Holds what is left of an item once its files are closed.

    direction: (3,) unit vector from slice to slice, None if the header is broken. fingerprint: of its
    voxels, "" if they cannot be read or are constant. values: those in its label map, None if there is none
    that can be read.
    """

    ref: ScanRef
    direction: np.ndarray | None
    fingerprint: str
    values: frozenset[int] | None


@dataclass(frozen=True)
class _File:
    """Holds a file as far as it can be read."""

    header: Header | None
    scan: Scan | None


def group_by_file(items: Sequence[ScanRef]) -> list[tuple[ScanRef, ...]]:
    """Groups items that share a label file, or an image file if there is none: each file is in one group."""
    groups: dict[Path, list[ScanRef]] = {}
    for item in items:
        groups.setdefault(item.label or item.image, []).append(item)
    return [tuple(group) for group in groups.values()]


def examine(refs: Sequence[ScanRef], labels: Labels, root: Path) -> tuple[list[Finding], list[Volume]]:
    """Returns findings on the files of one group, and its volumes. At most two files are in memory."""
    sheet = _Sheet(root)
    label = _open(sheet, refs[0].label, refs, image=False) if refs[0].label else _File(None, None)
    volumes = []
    for path, own in groupby(refs, key=lambda ref: ref.image):
        shared = list(own)
        image = _open(sheet, path, shared, image=True)
        for ref in shared:
            found = _examine_image(sheet, ref, image)
            values = _examine_label(sheet, ref, label, image.header, labels)
            volumes.append(Volume(ref, _direction(image.header), found, values))
    return sheet.findings, volumes


def _direction(header: Header | None) -> np.ndarray | None:
    if header is None:
        return None
    column = header.affine[:3, find_slice_axis(header.affine, header.shape)]
    return column / np.linalg.norm(column)


class _Sheet:
    """Gathers findings."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.findings: list[Finding] = []

    def add(self, faults: Iterable[Fault], path: Path, refs: Sequence[ScanRef]) -> None:
        case = refs[0].id if len(refs) == 1 else refs[0].patient
        self.findings += [fault.at(relative(path, self.root), case) for fault in faults]

    @contextmanager
    def catching(self, path: Path, refs: Sequence[ScanRef]) -> Iterator[None]:
        """Turns an error of a reader into a finding."""
        try:
            yield
        except CoopsegError as error:
            _, fault = fault_of(error, otherwise="unreadable", root=self.root)
            self.add([fault], path, refs)


def _open(sheet: _Sheet, path: Path, refs: Sequence[ScanRef], *, image: bool) -> _File:
    header = scan = None
    with sheet.catching(path, refs):
        header = read_header(path)  # first, so that geometry is checked even if the voxels are lost
        if image:
            sheet.add(check_header(header), path, refs)
        scan = read_image(path) if image else read_labels(path)
    return _File(header, scan)


def _pick(sheet: _Sheet, ref: ScanRef, file: _File, path: Path) -> np.ndarray | None:
    """Returns the item's voxels; None if there are none, which is a finding by then."""
    if file.header is None:
        return None
    with sheet.catching(path, [ref]):
        index = frame_index(ref, file.header.shape, path)
        if file.scan is not None:
            return file.scan.data if index is None else file.scan.data[..., index]
    return None


def _examine_image(sheet: _Sheet, ref: ScanRef, image: _File) -> str:
    """Checks an item's image and returns its fingerprint."""
    volume = _pick(sheet, ref, image, ref.image)
    if volume is None or image.header is None:
        return ""
    axis = find_slice_axis(image.header.affine, image.header.shape)
    sheet.add(check_voxels(volume, axis=axis, normalised=ref.normalised), ref.image, [ref])
    return fingerprint(volume)


def _examine_label(
    sheet: _Sheet, ref: ScanRef, label: _File, image: Header | None, labels: Labels
) -> frozenset[int] | None:
    """Checks an item's label map and returns the values in it."""
    if ref.label is None:
        return None
    if label.header is not None and image is not None:
        with sheet.catching(ref.label, [ref]):
            check_grid(ref, label=label.header, image=image)
    volume = _pick(sheet, ref, label, ref.label)
    if volume is None:
        return None
    values = frozenset(np.unique(volume).tolist())
    sheet.add(check_values(values, labels), ref.label, [ref])
    return values
