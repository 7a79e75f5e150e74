"""NSD, HD95 and ASSD: against slow distances and a formula for a sphere; empty masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from surface_distance import lookup_tables

from coopseg.errors import CoopsegError
from coopseg.evaluation.metrics import surface_scores

pytestmark = pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage`:DeprecationWarning")


def elements(mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Corners of voxels that touch both inside and outside, in mm, and their areas, one by one."""
    padded = np.pad(mask, 1).astype(int)
    areas = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    weights = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    places, found = [], []
    for place in np.ndindex(*(side + 1 for side in mask.shape)):
        cube = padded[tuple(slice(start, start + 2) for start in place)]
        if 0 < cube.sum() < 8:
            places.append(np.array(place) * spacing)
            found.append(areas[(cube * weights).sum()])
    return np.array(places), np.array(found)


def slow_scores(
    p: np.ndarray, t: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float, float]:
    (p_places, p_areas), (t_places, t_areas) = elements(p, spacing), elements(t, spacing)
    pairs = cdist(p_places, t_places)
    percentiles = []
    for distances, areas in ((pairs.min(1), p_areas), (pairs.min(0), t_areas)):
        order = np.argsort(distances)
        reached = np.cumsum(areas[order]) / areas.sum()
        percentiles.append(distances[order][np.argmax(reached >= 0.95)])
    total = (pairs.min(1) * p_areas).sum() + (pairs.min(0) * t_areas).sum()
    within = p_areas[pairs.min(1) <= tolerance].sum() + t_areas[pairs.min(0) <= tolerance].sum()
    whole = p_areas.sum() + t_areas.sum()
    return max(percentiles), total / whole, within / whole


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.3, 1.4, 10.0)])
def test_equals_brute_force(seed: int, spacing: tuple[float, ...]) -> None:
    noise = np.random.default_rng(seed).normal(size=(2, 9, 10, 6))
    p, t = (gaussian_filter(volume, 1.2) > 0.05 for volume in noise)
    for tolerance in (0, 1.35, 2, 5):
        found = surface_scores(p, t, spacing=spacing, tolerance=tolerance)
        np.testing.assert_allclose(found, slow_scores(p, t, spacing, tolerance), rtol=1e-6)


def test_two_voxels_apart() -> None:
    """Every corner of a voxel stands for one area, so that plain means are right whatever the weights."""
    p, t = np.zeros((2, 9, 5, 5), bool)
    p[1, 2, 2], t[5, 2, 2] = True, True
    hd95, assd, nsd = surface_scores(p, t, spacing=(2.0, 3.0, 10.0), tolerance=6)
    assert hd95 == pytest.approx(8)  # the far corners: four voxels of 2 mm
    assert assd == pytest.approx((6 + 8) / 2)  # the near corners: three
    assert nsd == pytest.approx(1 / 2)  # the near corners


def test_symmetric_and_zero_for_equal_masks() -> None:
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 8))
    p, t = (gaussian_filter(volume, 1) > 0 for volume in noise)
    assert surface_scores(p, t, spacing=(1, 2, 3)) == pytest.approx(surface_scores(t, p, spacing=(1, 2, 3)))
    assert surface_scores(p, p, spacing=(1, 2, 3), tolerance=0) == (0, 0, 1)


def test_scales_with_the_spacing_and_touches_the_border() -> None:
    p, t = np.zeros((2, 6, 6, 6), bool)
    p[:3], t[:4] = True, True
    one, ten = (surface_scores(p, t, spacing=(factor,) * 3)[:2] for factor in (1, 10))
    np.testing.assert_allclose(np.multiply(one, 10), ten)
    assert one[0] == pytest.approx(1)


@pytest.mark.parametrize("filled", [(), (0,), (1,)])
def test_an_empty_mask_has_no_distance(filled: tuple[int, ...]) -> None:
    masks = np.zeros((2, 4, 4, 4), bool)
    masks[list(filled), 1:3] = True
    *distances, nsd = surface_scores(*masks, spacing=(1, 1, 1))
    assert all(math.isnan(value) for value in distances)
    assert nsd == (0 if filled else 1)  # as Dice


def test_refuses_other_grids() -> None:
    with pytest.raises(CoopsegError, match="two 3-D masks in one grid"):
        surface_scores(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), spacing=(1, 1, 1))
