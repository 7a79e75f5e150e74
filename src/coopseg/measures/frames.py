"""Counts the voxels of each structure in a 3-D label map, and says whether its grid gives volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.measures.stack import LV, Slices, describe_slices
from coopseg.scans.geometry import SliceAxis, describe_spacing, find_orientation, judge_spacing

TRUE, NOMINAL = "true", "nominal"  # what the spacing of the headers may be
SINGLE = "a single slice has no volume"
EXTREME = "spacing-extreme"  # the rule of `judge_spacing` that a grid breaks which gives no volume


@dataclass(frozen=True)
class Frame:
    """Holds what was counted in one 3-D label map: a file of its own or a frame of one.

    name: for messages. phase: "ED", "ES" or "". voxels: of each structure. voxel_ml: None for a single slice,
    which has no thickness. scaled: whether voxel_ml is true, so that volumes can be told and not only their
    ratios. slices: None without an LV. lines: what is odd about its grid.
    """

    name: str
    phase: str
    voxels: Mapping[str, int]
    voxel_ml: float | None
    scaled: bool = True
    slices: Slices | None = None
    lines: tuple[str, ...] = ()

    @property
    def is_labelled(self) -> bool:
        """Tells whether anything is labelled."""
        return any(self.voxels.values())

    def size(self, structure: str) -> float | None:
        """Returns a structure's volume in ml, or in a unit of its own if it is not `scaled`."""
        return None if self.voxel_ml is None else self.voxels[structure] * self.voxel_ml

    def ml(self, structure: str) -> float | None:
        """Returns a structure's volume in ml; None where it cannot be known."""
        return self.size(structure) if self.scaled else None


def check_spacing(spacing: str) -> None:
    """Raise CoopsegError for anything but "true" and "nominal"."""
    if spacing not in (TRUE, NOMINAL):
        raise CoopsegError(f"spacing {spacing!r} is not known; use {TRUE} or {NOMINAL}")


def voxel_volume(affine: np.ndarray) -> float:
    """Returns the ml of a voxel by the determinant of the (4, 4) affine in mm, which holds for shear too.

    >>> round(voxel_volume(np.diag([-1.5, 1.5, 8, 1])), 6)
    0.018
    """
    return float(abs(np.linalg.det(affine[:3, :3]))) / 1000


def count_voxels(labels: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """Returns the voxels of each structure in a label map of any shape; names: background first."""
    counts = np.bincount(labels.ravel(), minlength=len(names))
    return {structure: int(counts[index]) for index, structure in enumerate(names) if index}


def true_voxel(
    affine: np.ndarray, shape: tuple[int, ...], spacing: str, slice_axis: SliceAxis = "auto"
) -> float | None:
    """Returns the ml of a voxel; None where the spacing is not the true one, or no distance to a next slice.

    For the arguments see `count_frame`.
    """
    _, slices, rule = _judge(affine, shape, spacing, slice_axis)
    return None if slices == 1 or spacing != TRUE or rule == EXTREME else voxel_volume(affine)


def _judge(
    affine: np.ndarray, shape: tuple[int, ...], spacing: str, slice_axis: SliceAxis
) -> tuple[tuple[float, float, float], int, str]:
    """Returns the spacing of (slices, rows, columns), the number of slices and the rule that is broken."""
    orientation = find_orientation(affine, shape, slice_axis=slice_axis)
    sides = orientation.spacing(np.linalg.norm(affine[:3, :3], axis=0))
    slices = shape[orientation.axes[0]]
    return sides, slices, judge_spacing(sides, slices) if spacing == TRUE else ""


def count_frame(
    labels: np.ndarray,
    names: Sequence[str],
    affine: np.ndarray,
    *,
    name: str = "",
    phase: str = "",
    spacing: str = TRUE,
    slice_axis: SliceAxis = "auto",
) -> Frame:
    """Counts the voxels of each structure in a 3-D map.

    labels: (X, Y, Z) class indices into `names`, background first. affine: (4, 4), voxel index to mm. name,
    phase: of the frame. spacing: "nominal" if that of the affine is not the true one. slice_axis: see
    `find_slice_axis`.
    """
    voxels = count_voxels(labels, names)
    sides, slices, rule = _judge(affine, labels.shape, spacing, slice_axis)
    lines = {
        "spacing-unusual": [f"{describe_spacing(sides)}, which is unusual"],
        EXTREME: [f"{describe_spacing(sides)}, as of no scanner, so there are no volumes"],
    }.get(rule, [])
    if slices == 1:
        lines.append(SINGLE)
    return Frame(
        name,
        phase,
        voxels,
        None if slices == 1 else voxel_volume(affine),
        scaled=spacing == TRUE and rule != EXTREME,
        slices=describe_slices(labels, names, affine, slice_axis) if LV in names else None,
        lines=tuple(lines),
    )
