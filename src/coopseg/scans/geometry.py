"""Turns a stored volume into the slices that the networks see, and exactly back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal

import numpy as np

# Directions (RAS+) along which slices, rows and columns should increase, as nearly as the grid allows.
# Columns towards the left and rows towards posterior and inferior show an axial, coronal, sagittal or
# short-axis slice the way radiology does, with the RV left of the LV. They are fixed and deliberately off
# the world axes: the nearest world axis of an oblique short-axis plane changes from patient to patient,
# and following it would turn some scans by 90 degrees.
SLICES = np.array([0.5, -0.25, 1.0])
ROWS = np.array([0.0, -0.5, -1.0])
COLUMNS = np.array([-1.0, -0.5, 0.0])
TIE = 1e-4  # scores closer than this count as equal, despite rounding in the header
CLEAR = 1.2  # an axis is coarser than the others if its spacing is this many times theirs, or more

SliceAxis = Literal["auto", 0, 1, 2]  # the stored axis along which slices are stacked, as settings say it

# mm. No scanner goes beyond `possible`, but metres, micrometres and damaged headers do; resampled, such a
# volume would shrink to a few pixels or fill the memory. Cardiac MR, body MR and CT hardly ever go beyond
# `usual`, but spacings in centimetres often do.
POSSIBLE_PIXEL, POSSIBLE_SLICE = (0.1, 10.0), (0.5, 50.0)
USUAL_PIXEL, USUAL_SLICE = (0.3, 4.0), (0.5, 20.0)


@dataclass(frozen=True)
class Orientation:
    """Says which stored axes become (slices, rows, columns), and which of these run backwards."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def __post_init__(self) -> None:
        if sorted(self.axes) != [0, 1, 2]:
            raise ValueError(f"not an orientation: axes {self.axes}")

    def spacing(self, stored: np.ndarray) -> tuple[float, float, float]:
        """Returns the (slices, rows, columns) spacing in mm, given that of the stored axes."""
        slices, rows, columns = (float(stored[axis]) for axis in self.axes)
        return slices, rows, columns


def find_slice_axis(affine: np.ndarray, shape: tuple[int, ...], slice_axis: SliceAxis = "auto") -> int:
    """Finds the stored axis along which the slices of a scan are stacked: `slice_axis`, if it names one.

    An axis of length 1 is the slice axis, whatever its spacing: exports of single slices seldom record one.
    Otherwise it is the coarsest axis if that is at least CLEAR times as coarse as the others, else the last.
    affine: (4, 4), voxel index to mm. shape: (X, Y, Z) or (X, Y, Z, T) voxels.
    """
    if slice_axis != "auto":
        return slice_axis
    if single := [axis for axis in range(3) if shape[axis] == 1]:
        return single[-1]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    _, second, greatest = np.argsort(spacing).tolist()
    return greatest if spacing[greatest] >= CLEAR * (1 - TIE) * spacing[second] else 2


def find_orientation(
    affine: np.ndarray, shape: tuple[int, ...], *, slice_axis: SliceAxis = "auto"
) -> Orientation:
    """Finds the orientation that brings a scan into the common one; shear is allowed.

    affine: (4, 4), voxel index to mm. shape: (X, Y, Z) or (X, Y, Z, T) voxels. slice_axis: see
    `find_slice_axis`.
    """
    first = find_slice_axis(affine, shape, slice_axis)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    candidates = [
        (rows, columns, flip_rows, flip_columns)
        for columns, rows in permutations([axis for axis in range(3) if axis != first])
        for flip_rows, flip_columns in product((False, True), repeat=2)
    ]
    scores = [
        (-1) ** flip_rows * directions[:, rows] @ ROWS
        + (-1) ** flip_columns * directions[:, columns] @ COLUMNS
        for rows, columns, flip_rows, flip_columns in candidates
    ]
    best = next(i for i, score in enumerate(scores) if score >= max(scores) - TIE)
    rows, columns, flip_rows, flip_columns = candidates[best]
    flip_slices = bool(directions[:, first] @ SLICES < -TIE)
    return Orientation((first, rows, columns), (flip_slices, flip_rows, flip_columns))


def judge_spacing(
    spacing: tuple[float, float, float], slices: int
) -> Literal["", "spacing-unusual", "spacing-extreme"]:
    """Returns the rule of `coopseg validate` that a spacing breaks, or "".

    spacing: mm of (slices, rows, columns). slices: their number; a single slice has no distance to another.
    """
    between, rows, columns = spacing
    for rule, pixel, distance in (
        ("spacing-extreme", POSSIBLE_PIXEL, POSSIBLE_SLICE),
        ("spacing-unusual", USUAL_PIXEL, USUAL_SLICE),
    ):
        stacked = slices == 1 or distance[0] <= between <= distance[1]
        if not (stacked and all(pixel[0] <= side <= pixel[1] for side in (rows, columns))):
            return rule  # type: ignore[return-value]  # of the two above
    return ""


def describe_spacing(spacing: tuple[float, float, float]) -> str:
    """Says a (slices, rows, columns) spacing in words."""
    slices, rows, columns = spacing
    return f"pixels of {columns:.3g} x {rows:.3g} mm, slices {slices:.3g} mm apart"


def to_slices(data: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Turns a stored (..., X, Y, Z) into (..., slices, rows, columns), as a view."""
    lead = data.ndim - 3
    moved = data.transpose(*range(lead), *(lead + axis for axis in orientation.axes))
    return moved[(..., *_steps(orientation))]


def from_slices(data: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Undoes `to_slices` exactly: (..., slices, rows, columns) to (..., X, Y, Z), as a view."""
    lead = data.ndim - 3
    unflipped = data[(..., *_steps(orientation))]
    return unflipped.transpose(*range(lead), *(lead + int(axis) for axis in np.argsort(orientation.axes)))


def slices_affine(affine: np.ndarray, shape: tuple[int, ...], orientation: Orientation) -> np.ndarray:
    """Returns the (4, 4) affine from (slice, row, column) indices to mm, for a volume's shape and affine."""
    index = np.zeros((4, 4))
    index[3, 3] = 1
    for new, (axis, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True)):
        index[axis, new] = -1 if flip else 1
        index[axis, 3] = shape[axis] - 1 if flip else 0
    return affine @ index


def _steps(orientation: Orientation) -> tuple[slice, slice, slice]:
    slices, rows, columns = (slice(None, None, -1 if flip else 1) for flip in orientation.flips)
    return slices, rows, columns
