"""Makes smooth maps: uniform cubic B-spline surfaces with a grid of control points.

At every point the splines are non-negative and sum to 1, so a surface stays within its control points' range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SPLINES = 4  # number of cubic splines that reach a point


def control_points(spacing: float) -> int:
    """Returns how many splines reach into the image along an axis: one per segment, and three more."""
    return math.ceil(1 / spacing) + SPLINES - 1


def spline_surface(points: Tensor, size: Sequence[int], spacing: float) -> Tensor:
    """Returns the surface at the middles of the pixels, (B, 1, *size), for control points (B, 1, n, n).

    spacing: distance of control points, as a fraction of the image's side. n is `control_points(spacing)`.
    """
    rows, columns = (spline_basis(side, spacing).to(points) for side in size)
    # bf16 would turn smooth changes into steps
    with torch.autocast(points.device.type, enabled=False):
        return rows @ points @ columns.mT


def spline_basis(side: int, spacing: float) -> Tensor:
    """Returns uniform cubic B-splines at the middles of `side` pixels: (side, control points), rows sum to 1.

    Knots lie at the multiples of `spacing`, a fraction of the side, in and beyond the image.
    """
    segments = (torch.arange(side, dtype=torch.float64) + 0.5) / (side * spacing)
    # the middle of spline k is k - 1 segments from the image's border
    distance = (segments[:, None] - torch.arange(-1, control_points(spacing) - 1)).abs()
    near = 2 / 3 - distance.square() + distance.pow(3) / 2
    far = (2 - distance).clamp_min(0).pow(3) / 6
    return torch.where(distance < 1, near, far)
