"""Checks spacing, orientation and shear by a header alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coopseg.checks.report import Fault
from coopseg.checks.rules import POSSIBLE_PIXEL, POSSIBLE_SLICE, SHEAR, USUAL_PIXEL, USUAL_SLICE
from coopseg.scans.geometry import find_orientation

LAST = 2  # the axis along which NIfTI files stack slices


def slice_axis(affine: np.ndarray) -> int:
    """Returns the stored axis along which slices are stacked, as preparation finds it."""
    return find_orientation(affine).axes[0]


def check_geometry(affine: np.ndarray) -> Iterator[Fault]:
    """Yields the faults of a (4, 4) affine, voxel index to mm."""
    yield from _check_spacing(affine)
    yield from _check_orientation(affine)
    yield from _check_shear(affine)


def _check_spacing(affine: np.ndarray) -> Iterator[Fault]:
    stored = np.linalg.norm(affine[:3, :3], axis=0)
    slices, rows, columns = find_orientation(affine).spacing(stored)
    found = f"pixels of {columns:.3g} x {rows:.3g} mm, slices {slices:.3g} mm apart"
    for rule, pixel, slice_ in (
        ("spacing-extreme", POSSIBLE_PIXEL, POSSIBLE_SLICE),
        ("spacing-unusual", USUAL_PIXEL, USUAL_SLICE),
    ):
        if not (_within(rows, pixel) and _within(columns, pixel) and _within(slices, slice_)):
            yield Fault(rule, found)
            return


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _check_orientation(affine: np.ndarray) -> Iterator[Fault]:
    if np.array_equal(affine, np.eye(4)):
        yield Fault(
            "orientation",
            "the affine is the identity, as where spacing and direction were never recorded",
            "export the scan with its geometry",
        )
    elif (axis := slice_axis(affine)) != LAST:
        yield Fault("orientation", f"slices are cut along axis {axis}, the coarsest, not along the last")


def _check_shear(affine: np.ndarray) -> Iterator[Fault]:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = np.abs(directions.T @ directions - np.eye(3)).max()
    if cosine > SHEAR:
        yield Fault("shear", f"two axes meet at {np.degrees(np.arccos(cosine)):.2f} degrees instead of 90")
