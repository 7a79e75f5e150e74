"""Spline surfaces against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from coopseg.rivals.splines import control_points, spline_basis, spline_surface


@pytest.mark.parametrize(("side", "spacing"), [(16, 0.5), (96, 0.5), (30, 1 / 3), (17, 0.3), (8, 1.0)])
def test_splines_are_those_of_scipy(side: int, spacing: float) -> None:
    found = spline_basis(side, spacing)
    points = control_points(spacing)
    knots = spacing * np.arange(-3, points + 1)
    middles = (np.arange(side) + 0.5) / side
    np.testing.assert_allclose(found, BSpline.design_matrix(middles, knots, 3).toarray(), atol=1e-12)


def test_a_surface_is_a_spline_along_either_axis() -> None:
    points = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = spline_surface(points, (12, 20), 0.25)
    knots = 0.25 * np.arange(-3, 8)
    down, along = ((np.arange(side) + 0.5) / side for side in (12, 20))
    for sample in range(2):
        rows = BSpline(knots, points[sample, 0].numpy(), 3)(down)
        np.testing.assert_allclose(found[sample, 0], BSpline(knots, rows, 3, axis=1)(along), rtol=1e-12)


def test_a_surface_stays_within_its_control_points() -> None:
    corners = torch.randint(2, (200, 1, 7, 7), generator=torch.Generator().manual_seed(0)).double()
    found = spline_surface(corners, (32, 32), 0.25)
    assert -1e-12 < float(found.min()) < 0.1
    assert 0.9 < float(found.max()) < 1 + 1e-12
