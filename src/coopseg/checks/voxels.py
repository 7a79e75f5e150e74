"""Checks the voxels of one image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from coopseg.checks.report import Fault
from coopseg.checks.rules import CLIP
from coopseg.text import listing


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
    low, high = np.percentile(volume, CLIP)
    if low == high and not normalised:  # a normalised image is not clipped
        yield Fault("constant", f"percentiles {CLIP[0]:g} and {CLIP[1]:g} are both {low:g}")
        return
    slices = np.moveaxis(volume, axis, 0).reshape(volume.shape[axis], -1)
    blank = np.flatnonzero(slices.min(1) == slices.max(1)).tolist()
    if blank:
        which = listing(list(map(str, blank)))
        yield Fault("constant-slice", f"{len(blank)} of {len(slices)} slices, counted from 0: {which}")
