"""Mends and looks over whole scans, 3-D or 4-D, and says in lines what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from coopseg.measures.anatomy import find_violations, left_out, mend
from coopseg.measures.frames import TRUE, count_voxels, true_voxel
from coopseg.measures.remarks import Order, Remark, Scale, join_phases
from coopseg.scans.geometry import SliceAxis

RULES, WALL = "largest pieces, holes", "LV within myocardium"


def rules_for(names: Sequence[str]) -> str:
    """Names the rules that are applied to these classes, for a record."""
    return RULES if left_out(names) else f"{RULES}, {WALL}"


def mend_heads(
    heads: Mapping[str, np.ndarray],
    names: Sequence[str],
    affine: np.ndarray,
    *,
    spacing: str = TRUE,
    slice_axis: SliceAxis = "auto",
) -> tuple[dict[str, np.ndarray], tuple[Remark, ...]]:
    """Mends the label maps of a scan, (X, Y, Z) or (X, Y, Z, T), and says in a line each what was changed.

    Of several phases the numbers are those of the phase in which most was changed.
    spacing: "nominal" if that of the affine is not the true one; then shares are said in place of ml.
    slice_axis: see `find_slice_axis`.
    """
    mended, found = {}, []
    for head, labels in heads.items():
        mended[head], changed = np.empty_like(labels), []
        voxel_ml = true_voxel(affine, labels.shape[:3], spacing, slice_axis)
        for frame, target in zip(_frames(labels), _frames(mended[head]), strict=True):
            target[...], changes = mend(frame, names, affine, slice_axis=slice_axis)
            changed.append(changes.remarks(Scale(voxel_ml, count_voxels(target, names))))
        if parts := join_phases(changed):
            of = f"{head}: " if len(heads) > 1 else ""
            text = f"{of}anatomy: {'; '.join(part.text for part in parts)}"
            phases = sorted({phase for part in parts for phase in part.phases})
            found.append(Remark(text, f"{of}anatomy", order=Order.MENDED, phases=tuple(phases)))
    return mended, tuple(found)


def look_over(
    labels: np.ndarray,
    names: Sequence[str],
    affine: np.ndarray,
    *,
    spacing: str = TRUE,
    slice_axis: SliceAxis = "auto",
) -> tuple[Remark, ...]:
    """Says what no anatomy has in a label map, (X, Y, Z) or (X, Y, Z, T).

    spacing, slice_axis: see `mend_heads`.
    """
    voxel_ml = true_voxel(affine, labels.shape[:3], spacing, slice_axis)
    found = []
    for frame in _frames(labels):
        violations = find_violations(frame, names, affine, slice_axis=slice_axis)
        found.append(violations.remarks(Scale(voxel_ml, count_voxels(frame, names))))
    return join_phases(found)


def _frames(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Yields each 3-D frame as a view."""
    yield from [labels] if labels.ndim == 3 else np.moveaxis(labels, 3, 0)
