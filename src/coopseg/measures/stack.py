"""Reads a label map as a stack of slices: which hold the LV, and where its wall is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coopseg.scans.geometry import SliceAxis, find_slice_axis
from coopseg.text import counted, runs

LV, MYO, RV = "LV", "MYO", "RV"
CLOSED = 0.5  # least share of the LV's outline that is myocardium where its wall is taken to be closed
BEYOND = -1  # stands for what lies beyond the image


@dataclass(frozen=True)
class Slices:
    """Says which slices hold the LV. They are counted from 1, in the order in which they are stored.

    total: of the volume. filled: with LV. bare: those of them in which less than half of the LV's outline is
    myocardium, as in the outflow tract or the atrium. missed: without LV, between two that hold it.
    """

    total: int
    filled: tuple[int, ...]
    bare: tuple[int, ...]
    missed: tuple[int, ...]

    def describe(self) -> str:
        """Says in words which slices count and what looks wrong about them."""
        if not self.filled:
            return f"no LV in {counted(self.total, 'slice')}"
        parts = [f"LV in {len(self.filled)} of {counted(self.total, 'slice')} ({runs(self.filled)})"]
        if self.bare:
            count = "counts" if len(self.bare) == 1 else "count"
            where = name_slices(self.bare)
            parts.append(f"less than half of its outline is myocardium in {where}, which {count} too")
        if self.missed:
            parts.append(f"no LV in {name_slices(self.missed)} between them, so nothing is counted there")
        return "; ".join(parts)


def name_slices(numbers: Sequence[int]) -> str:
    """Names slices in a sentence.

    >>> name_slices([3]), name_slices([2, 3, 4, 7])
    ('slice 3', 'slices 2 to 4, 7')
    """
    return f"slice{'s' if len(numbers) > 1 else ''} {runs(numbers)}"


def describe_slices(
    labels: np.ndarray, names: Sequence[str], affine: np.ndarray, slice_axis: SliceAxis = "auto"
) -> Slices:
    """Finds the slices that hold the LV in a 3-D map.

    labels: (X, Y, Z) class indices into `names`, of which one is LV. affine: (4, 4), voxel index to mm.
    slice_axis: see `find_slice_axis`.
    """
    stack = to_stack(labels, affine, slice_axis)
    filled = np.flatnonzero((stack == names.index(LV)).any(axis=(1, 2))).tolist()
    shares = share_of_wall(stack, names)
    bare = [index for index in filled if shares[index] < CLOSED]
    missed = [index for index in range(filled[0], filled[-1]) if index not in filled] if filled else []
    return Slices(len(stack), *(tuple(index + 1 for index in found) for found in (filled, bare, missed)))


def to_stack(labels: np.ndarray, affine: np.ndarray, slice_axis: SliceAxis) -> np.ndarray:
    """Turns (X, Y, Z) into (slices, ...), as a view."""
    return np.moveaxis(labels, find_slice_axis(affine, labels.shape, slice_axis), 0)


def neighbours(stack: np.ndarray) -> np.ndarray:
    """Returns the labels of each voxel's four neighbours within its slice, BEYOND at the image's border.

    stack: (slices, rows, columns) integers. Returns (4, slices, rows, columns) int32.
    """
    padded = np.pad(stack.astype(np.int32), ((0, 0), (1, 1), (1, 1)), constant_values=BEYOND)
    return np.stack([padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]])


def share_of_wall(stack: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Returns which share of the LV's outline is myocardium, (slices,) float64; 1 where there is no outline.

    The outline is counted in pairs of an LV voxel and a neighbour that is not LV.
    """
    blood = stack == names.index(LV)
    around = np.where(blood, neighbours(stack), BEYOND)
    outline = ((around != BEYOND) & (around != names.index(LV))).sum(axis=(0, 2, 3))
    wall = (around == names.index(MYO)).sum(axis=(0, 2, 3)) if MYO in names else np.zeros(len(stack))
    return np.where(outline > 0, wall / np.maximum(outline, 1), 1.0)
