"""Reads every file once: checks it by itself, and keeps what is needed to compare it with others."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from coopseg.cases.lost import Lost
from coopseg.cases.prepare import few_whole_numbers, judge_intensities, measure_lost
from coopseg.checks.rules import SHEAR, Fault, Finding, fault_of, relative
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.geometry import describe_spacing, find_orientation, find_slice_axis, judge_spacing
from coopseg.scans.header import Header
from coopseg.scans.labels import MOST_LABELS, labels_to_indices, make_labels
from coopseg.scans.load import check_grid, frame_index, join_channels, pick_frame, split_channels
from coopseg.scans.nifti import read_header, read_image, read_labels
from coopseg.scans.types import BACKGROUND, Labels, Scan, ScanRef
from coopseg.text import listing

DEFAULT = CaseSettings()
LAST = 2  # the axis along which NIfTI files stack slices


def check_header(header: Header) -> Iterator[Fault]:
    """Yields the faults of a header that can be read: its affine, and a second one that disagrees."""
    for note in header.notes:
        yield Fault("forms-disagree", note)
    yield from check_geometry(header.affine, header.shape)


def check_geometry(affine: np.ndarray, shape: tuple[int, ...]) -> Iterator[Fault]:
    """Yields the faults of a (4, 4) affine, voxel index to mm, of a scan of `shape`."""
    orientation = find_orientation(affine, shape)
    spacing = orientation.spacing(np.linalg.norm(affine[:3, :3], axis=0))
    if rule := judge_spacing(spacing, shape[orientation.axes[0]]):
        yield Fault(rule, describe_spacing(spacing))
    if np.array_equal(affine, np.eye(4)):
        yield Fault(
            "orientation",
            "the affine is the identity, as where spacing and direction were never recorded",
            "export the scan with its geometry",
        )
    elif (axis := orientation.axes[0]) != LAST:
        yield Fault("orientation", f"slices are cut along axis {axis}, not along the last")
    yield from _check_shear(affine)


def _check_shear(affine: np.ndarray) -> Iterator[Fault]:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = np.abs(directions.T @ directions - np.eye(3)).max()
    if cosine > SHEAR:
        yield Fault("shear", f"two axes meet at {np.degrees(np.arccos(cosine)):.2f} degrees instead of 90")


def fingerprint(volume: np.ndarray) -> str:
    """Returns a hash, equal for equal shapes and voxels however files are packed; "" for a constant volume.

    Constant ones are alike because they are broken, not because they were copied.
    """
    if volume.min() == volume.max():
        return ""
    ordered = np.ascontiguousarray(volume.T)  # the order in which files are read, so that nothing is copied
    return hashlib.blake2b(ordered.data, digest_size=16).hexdigest() + str(volume.shape)


def check_voxels(
    volume: np.ndarray, *, axis: int, normalised: bool, settings: CaseSettings = DEFAULT
) -> Iterator[Fault]:
    """Yields faults of a finite (X, Y, Z) float32 image.

    axis: of the slices. normalised: by its data set. settings: by which intensities would become [0, 1].
    """
    least, greatest = float(volume.min()), float(volume.max())
    if normalised and (least < 0 or greatest > 1):
        yield Fault("not-normalised", f"said to be normalised, but holds {least:g} to {greatest:g}")
    if least == greatest:
        yield Fault("constant", f"every voxel is {least:g}")
        return
    if not normalised and (values := few_whole_numbers(volume)):
        yield Fault("label-as-image", f"holds {values} whole numbers only")
    for line in () if normalised else judge_intensities(volume, settings):
        found, _, do = line.partition("; ")
        yield Fault("other-modality", found, do)
    if not (settings.window or normalised):  # a normalised image is not clipped
        low, high = np.percentile(volume, settings.percentiles)
        if low == high:
            first, last = settings.percentiles
            yield Fault("constant", f"percentiles {first:g} and {last:g} are both {low:g}")
            return
    slices = np.moveaxis(volume, axis, 0).reshape(volume.shape[axis], -1)
    blank = np.flatnonzero(slices.min(1) == slices.max(1)).tolist()
    if blank:
        which = listing(list(map(str, blank)))
        yield Fault("constant-slice", f"{len(blank)} of {len(slices)} slices, counted from 0: {which}")


def background_value(labels: Labels) -> int:
    """Returns the value in the files that means background."""
    return labels.values[labels.names.index(BACKGROUND)]


def check_values(values: Collection[int], labels: Labels) -> Iterator[Fault]:
    """Yields faults of a label map's values. If `labels` has background alone, they have no names."""
    background = background_value(labels)
    if set(values) == {background}:
        yield Fault("label-empty", f"every voxel is background ({background})")
        return
    named = bool(labels.foreground)
    if len(values) > MOST_LABELS:
        yield Fault("label-values", f"{len(values)} values, as of an image")
        return
    wrong = sorted(value for value in values if (value not in labels.values if named else value < 0))
    if wrong:
        known = listing([f"{value} {name}" for value, name in zip(labels.values, labels.names, strict=True)])
        found = f"no name for {listing(list(map(str, wrong)))}"
        yield Fault("label-unnamed", found + (f" (known: {known})" if named else ""))


@dataclass(frozen=True)
class Volume:
    """Holds what is left of an item once its files are closed.

    direction: (3,) unit vector from slice to slice, None if the header is broken. fingerprint: of its
    voxels, "" if they cannot be read or are constant. values: those in its label map, None if there is none
    that can be read. lost: what its preparation loses, None if it cannot be prepared with a label.
    """

    ref: ScanRef
    direction: np.ndarray | None
    fingerprint: str
    values: frozenset[int] | None
    lost: Lost | None = None


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


def examine(
    refs: Sequence[ScanRef], labels: Labels, root: Path, settings: CaseSettings = DEFAULT
) -> tuple[list[Finding], list[Volume]]:
    """Returns findings on the files of one group, and its volumes.

    At most an image, with all its channels, and a label map are in memory.
    """
    sheet = _Sheet(root)
    label = _open(sheet, refs[0].label, refs, image=False) if refs[0].label else _File(None, None)
    volumes = []
    for _, own in groupby(refs, key=lambda ref: ref.images):
        shared = list(own)
        channels = _open_channels(sheet, shared)
        header = channels[0].header
        for ref in shared:
            found = _examine_image(sheet, ref, channels, settings)
            values = _examine_label(sheet, ref, label, header, labels)
            lost = _measure(ref, channels, label, labels, settings)
            volumes.append(Volume(ref, _direction(header), found, values, lost))
    return sheet.findings, volumes


def _open_channels(sheet: _Sheet, refs: Sequence[ScanRef]) -> list[_File]:
    """Opens the channels of volumes that share them; those that cannot be read have no scan."""
    files = [_open(sheet, path, refs, image=True) for path in refs[0].images]
    first, count = files[0], refs[0].stacked
    if count > 1 and first.scan is not None:
        with sheet.catching(refs[0].image, refs):
            return [_File(first.header, each) for each in split_channels(first.scan, count).channels]
        return [_File(None, None)]
    return files


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
        index = frame_index(ref, file.scan.data.shape if file.scan else file.header.shape, path)
        if file.scan is not None:
            return file.scan.data if index is None else file.scan.data[..., index]
    return None


def _examine_image(sheet: _Sheet, ref: ScanRef, channels: Sequence[_File], settings: CaseSettings) -> str:
    """Checks an item's image, each channel by itself and then beside the first; returns its fingerprint."""
    found: list[str] = []
    for number, channel in enumerate(channels):
        path = ref.images[number] if ref.more else ref.image
        volume = _pick(sheet, ref, channel, path)
        if volume is None or channel.header is None:
            return ""
        axis = find_slice_axis(channel.header.affine, channel.header.shape)
        faults = check_voxels(volume, axis=axis, normalised=ref.normalised, settings=settings)
        mark = f"channel {number}: " if ref.stacked > 1 else ""
        sheet.add((replace(fault, found=mark + fault.found) for fault in faults), path, [ref])
        found.append(fingerprint(volume))
        if found[-1] and (first := found.index(found[-1])) < number:
            same = f"channel {number} holds the same voxels as channel {first}"
            sheet.add([Fault("repeated-image", same)], path, [ref])
        with sheet.catching(path, [ref]):
            join_channels([each.scan for each in (channels[0], channel) if each.scan])
    return "".join(found) if all(found) else ""


def _examine_label(
    sheet: _Sheet, ref: ScanRef, label: _File, image: Header | None, labels: Labels
) -> frozenset[int] | None:
    """Checks an item's label map and returns the values in it."""
    if ref.label is None:
        return None
    if label.header is not None and image is not None:
        with sheet.catching(ref.label, [ref]):
            check_grid(
                ref.label,
                (label.header.shape, label.header.affine),
                image=ref.image,
                grid=(image.shape, image.affine),
            )
    volume = _pick(sheet, ref, label, ref.label)
    if volume is None:
        return None
    values = frozenset(np.unique(volume).tolist())
    sheet.add(check_values(values, labels), ref.label, [ref])
    return values


def _measure(
    ref: ScanRef, channels: Sequence[_File], label: _File, labels: Labels, settings: CaseSettings
) -> Lost | None:
    """Counts what an item loses in preparation; None if that fails, for which there is a finding by then."""
    images = [channel.scan for channel in channels if channel.scan]
    if len(images) < ref.channels or label.scan is None:
        return None
    try:
        scan = join_channels([pick_frame(image, ref) for image in images])
        target = pick_frame(label.scan, ref)
        named = labels if labels.foreground else _unnamed(target.data)
        indices = labels_to_indices(target.data, named, names=named.names, path=ref.label)
        if scan.data.shape != indices.shape:
            return None
        return measure_lost(scan, settings, label=indices, names=named.names, normalised=ref.normalised)
    except CoopsegError:
        return None


def _unnamed(data: np.ndarray) -> Labels:
    """Names the values of a label map as training does if nobody has."""
    found = [(f"label{value}", value) for value in np.unique(data).tolist() if value > 0]
    return make_labels(found, source="")
