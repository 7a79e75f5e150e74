"""Checks one file by itself: the geometry of its header, its voxels, the values of a label map."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator

import numpy as np

from coopseg.cases.prepare import few_whole_numbers
from coopseg.checks.rules import CLIP, SHEAR, Fault
from coopseg.scans.geometry import describe_spacing, find_orientation, judge_spacing
from coopseg.scans.header import Header
from coopseg.scans.labels import MOST_LABELS
from coopseg.scans.types import BACKGROUND, Labels
from coopseg.text import listing

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


def check_voxels(volume: np.ndarray, *, axis: int, normalised: bool) -> Iterator[Fault]:
    """Yields faults of a finite (X, Y, Z) float32 image. axis: of the slices. normalised: by its data set."""
    least, greatest = float(volume.min()), float(volume.max())
    if normalised and (least < 0 or greatest > 1):
        yield Fault("not-normalised", f"said to be normalised, but holds {least:g} to {greatest:g}")
    if least == greatest:
        yield Fault("constant", f"every voxel is {least:g}")
        return
    if not normalised and (values := few_whole_numbers(volume)):
        yield Fault("label-as-image", f"holds {values} whole numbers only")
    low, high = np.percentile(volume, CLIP)
    if low == high and not normalised:  # a normalised image is not clipped
        yield Fault("constant", f"percentiles {CLIP[0]:g} and {CLIP[1]:g} are both {low:g}")
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
