"""Windows, spots and splines against loops, and by their stated distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from coopseg.rivals.regions import (
    Blanks,
    Spot,
    blank,
    control_points,
    covered,
    local_gamma,
    sample_blanks,
    sample_spot,
    shade,
    spline_basis,
    spline_surface,
    spot_map,
)

MANY = 4000


def make_images() -> Tensor:
    """(3, 2, 20, 30), float64, each from 0 to 1."""
    found = torch.rand(3, 2, 20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = found.amin((1, 2, 3), keepdim=True), found.amax((1, 2, 3), keepdim=True)
    return (found - low) / (high - low)


def make_spot(*strength: float) -> Spot:
    """One in the middle, one at a corner, one far outside."""
    centre = torch.tensor([[10.0, 15], [0, 29], [-10, 45]], dtype=torch.float64)
    width = torch.tensor([[4.0, 6], [20, 5], [10 / 3, 5]], dtype=torch.float64)
    return Spot(centre, width, torch.tensor(strength, dtype=torch.float64))


def slow_map(spot: Spot, b: int) -> np.ndarray:
    found = np.empty((20, 30))
    for row in range(20):
        for column in range(30):
            away = [
                (at - float(spot.centre[b, i])) / float(spot.width[b, i])
                for i, at in enumerate((row, column))
            ]
            found[row, column] = math.exp(-sum(a * a for a in away) / 2)
    return (found - found.min()) / (found.max() - found.min())


def test_a_spot_is_a_gaussian_from_0_to_1_wherever_it_lies() -> None:
    spot = make_spot(0, 0, 0)
    found = spot_map(spot, torch.Size((20, 30)))
    for b in range(3):
        np.testing.assert_allclose(found[b, 0], slow_map(spot, b), atol=1e-9)
    single = Spot(spot.centre.float(), spot.width.float(), spot.strength)
    torch.testing.assert_close(spot_map(single, torch.Size((20, 30))), found.float(), atol=1e-5, rtol=0)


def test_shade_is_added_in_standard_deviations() -> None:
    images, spot = make_images(), make_spot(0, 5, -2)
    found = shade(images, spot)
    for b, strength in enumerate((0, 5, -2)):
        image = images[b].numpy()
        expected = image + strength * image.std(ddof=1) * slow_map(spot, b)
        np.testing.assert_allclose(found[b], expected, atol=1e-9)


def test_gamma_holds_in_the_spot_and_fades_out() -> None:
    images, spot = make_images(), make_spot(1, 0.01, 4)
    found = local_gamma(images, spot)
    for b, exponent in enumerate((1, 0.01, 4)):
        image, share = images[b].numpy(), slow_map(spot, b)
        np.testing.assert_allclose(found[b], (1 - share) * image + share * image**exponent, atol=1e-9)


def test_blank_windows_take_their_mean_one_after_the_other() -> None:
    images = make_images()
    drawn = Blanks(
        start=torch.tensor([[[2, 3], [4, 5]]] * 3),
        length=torch.tensor([[[6, 8], [10, 3]]] * 3),
        present=torch.tensor([[False, False], [True, False], [True, True]]),
    )
    found = blank(images, drawn)
    for b, number in enumerate((0, 1, 2)):
        for c in range(2):
            expected = images[b, c].numpy().copy()
            if number > 0:
                expected[2:8, 3:11] = expected[2:8, 3:11].mean()
            if number > 1:
                expected[4:14, 5:8] = expected[4:14, 5:8].mean()
            np.testing.assert_allclose(found[b, c], expected, atol=1e-12)


def test_spots_are_drawn_as_stated() -> None:
    image, strength = torch.zeros(MANY, 1, 24, 48), torch.arange(float(MANY))
    spot = sample_spot(image, strength, torch.Generator().manual_seed(0))
    assert torch.equal(spot.strength, strength)
    for axis, side in enumerate((24, 48)):
        centre, width = spot.centre[:, axis] / side, (spot.width[:, axis] / side).log() / math.log(6)
        for found, low, high in ((centre, -0.5, 1.5), (width, -1, 0)):
            assert found.min() > low - 1e-5
            assert found.max() < high + 1e-5
            middle = 5 * (high - low) / (12 * MANY) ** 0.5
            assert float(found.mean()) == pytest.approx((low + high) / 2, abs=middle)
            assert float(found.var()) == pytest.approx((high - low) ** 2 / 12, rel=0.1)


def test_windows_are_drawn_as_stated() -> None:
    number = torch.arange(MANY) % 6
    drawn = sample_blanks(
        torch.zeros(MANY, 1, 24, 45), number, 5, (0.1, 1 / 3), torch.Generator().manual_seed(0)
    )
    assert torch.equal(drawn.present.sum(1), number)
    end = drawn.start + drawn.length
    for found, expected in (
        (drawn.length.amin((0, 1)), [2, 4]),
        (drawn.length.amax((0, 1)), [8, 15]),
        (drawn.start.amin((0, 1)), [0, 0]),
        (end.amax((0, 1)), [24, 45]),
    ):
        assert found.tolist() == expected
    counts = torch.bincount(drawn.length[..., 0].flatten(), minlength=9)[2:] / (5 * MANY)
    assert ((counts - 1 / 7).abs() < 5 * (6 / 49 / (5 * MANY)) ** 0.5).all()


def test_a_window_covers_its_pixels_and_no_other() -> None:
    start, length = torch.tensor([[[0, 0], [2, 3]], [[4, 1], [1, 1]]]), torch.tensor([[[1, 2], [3, 3]]] * 2)
    found = covered(start, length, torch.Size((5, 6)))
    assert found.shape == (2, 2, 5, 6)
    for b in range(2):
        for n in range(2):
            (top, left), (height, width) = start[b, n].tolist(), length[b, n].tolist()
            for row in range(5):
                for column in range(6):
                    inside = top <= row < top + height and left <= column < left + width
                    assert bool(found[b, n, row, column]) == inside


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
