"""Scores surfaces: HD95 and ASSD in millimetres, and NSD with a stated rule for empty masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import surface_distance

from coopseg.errors import CoopsegError

TOLERANCE = 2.0  # millimetres, of the NSD: a pixel and a half of cardiac MR


def surface_scores(
    prediction: np.ndarray,
    target: np.ndarray,
    *,
    spacing: Sequence[float] | np.ndarray,
    tolerance: float = TOLERANCE,
) -> tuple[float, float, float]:
    """Returns HD95 and ASSD, mm, and NSD of two masks (package surface-distance, Nikolov et al. 2018).

    prediction, target: (X, Y, Z) bool. spacing: (3,) millimetres a voxel along X, Y, Z. tolerance: mm.

    A surface element lies at each voxel corner whose 2×2×2 neighbourhood is neither all inside nor all
    outside, and is weighted by its area; what lies beyond the volume counts as outside. Let d be the distance
    of an element to the nearest one of the other surface, and a its area:

        HD95 = max over both directions of the smallest d below which 95 % of the area lies
        ASSD = (Σ a·d over P→T + Σ a·d over T→P) / (Σ a over P + Σ a over T)
        NSD  = (Σ a over P and T with d ≤ tolerance) / (Σ a over P + Σ a over T)

    If a mask is empty HD95 and ASSD are NaN: a distance to nothing is missing, not 0 and not large. Averages
    must count missing values. NSD is then 0, and 1 if both masks are empty, as Dice is.
    Raises CoopsegError if shapes differ or are not 3-D.
    """
    if prediction.shape != target.shape or prediction.ndim != 3:
        raise CoopsegError(
            f"prediction has shape {prediction.shape}, target {target.shape}; give two 3-D masks in one grid"
        )
    filled = prediction.any(), target.any()
    if not all(filled):
        return math.nan, math.nan, 0.0 if any(filled) else 1.0
    surfaces = surface_distance.compute_surface_distances(
        target.astype(bool, copy=False), prediction.astype(bool, copy=False), spacing
    )
    areas = np.concatenate([surfaces["surfel_areas_gt"], surfaces["surfel_areas_pred"]])
    distances = np.concatenate([surfaces["distances_gt_to_pred"], surfaces["distances_pred_to_gt"]])
    hd95 = surface_distance.compute_robust_hausdorff(surfaces, 95)
    nsd = surface_distance.compute_surface_dice_at_tolerance(surfaces, tolerance)
    return float(hd95), float((areas * distances).sum() / areas.sum()), float(nsd)
