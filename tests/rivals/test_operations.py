"""Operations on images, windows, spots and splines against scipy and loops; draws by their distributions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from coopseg.rivals.operations import (
    Blanks,
    Spot,
    around_one,
    blank,
    blur,
    brighten,
    contrast,
    control_points,
    covered,
    deviation,
    gamma,
    local_gamma,
    low_resolution,
    median,
    perhaps,
    sample_blanks,
    sample_spot,
    shade,
    sharpen,
    spline_basis,
    spline_surface,
    spot_map,
    still_map,
    warp,
)
from coopseg.training.augmentation import source_points

MANY = 20_000


def make_images() -> Tensor:
    """(3, 2, 24, 18), float64, each from 0 to 1."""
    found = torch.rand(3, 2, 24, 18, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = found.amin((1, 2, 3), keepdim=True), found.amax((1, 2, 3), keepdim=True)
    return (found - low) / (high - low)


def draws(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def each(images: Tensor) -> list[tuple[int, int, np.ndarray]]:
    """(number, channel, the channel as numpy)."""
    return [(b, c, images[b, c].numpy()) for b in range(images.shape[0]) for c in range(images.shape[1])]


def test_blur_is_a_gaussian_whose_kernel_the_border_cuts_off() -> None:
    images, sigma = make_images(), (0.0, 0.4, 2.0)
    found = blur(images, draws(*sigma))
    for b, c, image in each(images):
        expected = image
        if sigma[b]:
            once, weight = (
                ndi.gaussian_filter(given, sigma[b], mode="constant", truncate=12)
                for given in (image, np.ones_like(image))
            )
            expected = once / weight
        np.testing.assert_allclose(found[b, c], expected, atol=1e-9)


def test_a_blurred_constant_is_constant() -> None:
    ones = torch.ones(3, 1, 16, 24)
    torch.testing.assert_close(blur(ones, torch.tensor([0.0, 0.25, 1.5])), ones)


def test_sharpening_adds_the_laplacian_within_the_range() -> None:
    images, strength = make_images(), (0.0, 0.1, 1.0)
    found = sharpen(images, draws(*strength))
    for b, c, image in each(images):
        expected = np.clip(image - strength[b] * ndi.laplace(image, mode="nearest"), 0, 1)
        np.testing.assert_allclose(found[b, c], expected, atol=1e-12)
    assert float(found[2].min()) == 0
    assert float(found[2].max()) == 1


def test_brightness_is_added_in_standard_deviations_and_clipped() -> None:
    images, strength = make_images(), (0.0, 0.5, -1.0)
    found = brighten(images, draws(*strength))
    for b in range(3):
        image = images[b].numpy()
        np.testing.assert_allclose(
            found[b], np.clip(image + strength[b] * image.std(ddof=1), 0, 1), atol=1e-12
        )
        assert float(deviation(images)[b]) == pytest.approx(image.std(ddof=1))


def test_contrast_is_about_the_mean_and_clipped() -> None:
    images, factor = make_images(), (1.0, 0.5, 2.0)
    found = contrast(images, draws(*factor))
    for b in range(3):
        image = images[b].numpy()
        mean = image.mean()
        np.testing.assert_allclose(found[b], np.clip(mean + factor[b] * (image - mean), 0, 1), atol=1e-12)


def test_gamma_of_images_and_of_their_negatives() -> None:
    images, exponent = make_images(), (1.0, 0.7, 1.5)
    for b, c, image in each(images):
        np.testing.assert_allclose(gamma(images, draws(*exponent))[b, c], image ** exponent[b], atol=1e-12)
        negative = 1 - (1 - image) ** exponent[b]
        np.testing.assert_allclose(gamma(images, draws(*exponent), inverted=True)[b, c], negative, atol=1e-12)


@pytest.mark.parametrize("size", range(2, 8))
def test_the_median_of_a_square_is_scipys(size: int) -> None:
    images = make_images()
    found = median(images, ((0, size), (2, 3)))
    for b, c, image in each(images):
        expected = image if b == 1 else ndi.median_filter(image, size if b == 0 else 3, mode="nearest")
        assert np.array_equal(found[b, c], expected)


def cubic(distance: float) -> float:
    """The weight of a pixel so far away (Keys 1981, a = -3/4)."""
    x, a = abs(distance), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def slow_line(line: np.ndarray, side: int) -> np.ndarray:
    """Cubic interpolation of one line of pixels to `side` of them, the ends repeated."""
    result = []
    for pixel in range(side):
        at = (pixel + 0.5) * len(line) / side - 0.5
        near = range(math.floor(at) - 1, math.floor(at) + 3)
        result.append(sum(cubic(at - n) * line[min(max(n, 0), len(line) - 1)] for n in near))
    return np.array(result)


@pytest.mark.parametrize("zoom", [0.25, 0.6, 1.0])
def test_low_resolution_drops_pixels_and_interpolates(zoom: float) -> None:
    images = make_images()
    found = low_resolution(images, ((1, zoom),))
    for b, c, image in each(images):
        expected = image
        if b == 1:
            rows, columns = round(24 * zoom), round(18 * zoom)
            kept = image[[int((i + 0.5) * 24 / rows) for i in range(rows)]]
            kept = kept[:, [int((i + 0.5) * 18 / columns) for i in range(columns)]]
            once = np.stack([slow_line(column, 24) for column in kept.T], 1)
            expected = np.stack([slow_line(row, 18) for row in once])
        np.testing.assert_allclose(found[b, c], expected, atol=1e-9)


def draw(p: float, *ranges: tuple[float, float]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return perhaps(p, *ranges, otherwise=-7, batch=MANY, generator=generator)


def test_one_range_is_uniform_and_as_frequent_as_asked() -> None:
    found = draw(0.3, (2, 5))
    picked = found[found != -7]
    assert len(picked) / MANY == pytest.approx(0.3, abs=5 * (0.21 / MANY) ** 0.5)
    assert picked.min() >= 2
    assert picked.max() <= 5
    assert float(picked.mean()) == pytest.approx(3.5, abs=0.1)
    assert float(picked.var()) == pytest.approx(9 / 12, rel=0.05)


def test_of_two_ranges_each_is_as_likely_whatever_its_width() -> None:
    found = draw(1, *around_one((0.5, 3.0)))
    below, above = found[found < 1], found[found >= 1]
    assert len(below) / MANY == pytest.approx(0.5, abs=5 * 0.5 / MANY**0.5)
    for part, low, high in ((below, 0.5, 1), (above, 1, 3)):
        assert part.min() >= low
        assert part.max() <= high
        assert float(part.mean()) == pytest.approx((low + high) / 2, abs=0.03)
        assert float(part.var()) == pytest.approx((high - low) ** 2 / 12, rel=0.05)


@pytest.mark.parametrize(("p", "values"), [(0, {-7.0}), (1, {2.0})])
def test_never_and_always(p: int, values: set[float]) -> None:
    assert set(draw(p, (2, 2)).tolist()) == values


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images (4, 2, 32, 48) and labels of blobs."""
    noise = np.random.default_rng(0).random((4, 3, 32, 48))
    smooth = ndi.gaussian_filter(noise, (0, 0, 3, 3))
    label = np.digitize(smooth[:, 2], np.quantile(smooth[:, 2], [0.5, 0.8]))
    return torch.from_numpy(smooth[:, :2].copy()), torch.from_numpy(label)


def test_images_and_label_take_one_map() -> None:
    images, label = make_batch()
    still = still_map(images, (3, 4), torch.Generator().manual_seed(0))
    params = replace(
        still,
        angle=torch.tensor([10.0, -170, 90, 45]),
        zoom=torch.tensor([[0.7, 1.4], [1.2, 1.2], [1, 1], [0.8, 1]]),
        flip=torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]]),
        alpha=torch.full((4,), 20.0),
    )
    found, marked = warp(images, label, params)
    x, y = source_points(params, (32, 48))
    for b in range(4):
        at = y[b].numpy() + 15.5, x[b].numpy() + 23.5
        for channel in range(2):
            expected = ndi.map_coordinates(images[b, channel].numpy(), at, order=1, mode="nearest")
            np.testing.assert_allclose(found[b, channel], expected, atol=1e-5)
        nearest = ndi.map_coordinates(label[b].numpy(), at, order=0, mode="nearest")
        assert (marked[b].numpy() == nearest).mean() > 0.999  # a point midway may go either way
    assert marked.dtype == torch.int64


def test_a_still_map_moves_nothing() -> None:
    images, label = make_batch()
    found, marked = warp(images, label, still_map(images, (3, 4), None))
    torch.testing.assert_close(found, images, atol=1e-5, rtol=0)
    assert torch.equal(marked, label)


def make_wide_images() -> Tensor:
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
    images, spot = make_wide_images(), make_spot(0, 5, -2)
    found = shade(images, spot)
    for b, strength in enumerate((0, 5, -2)):
        image = images[b].numpy()
        expected = image + strength * image.std(ddof=1) * slow_map(spot, b)
        np.testing.assert_allclose(found[b], expected, atol=1e-9)


def test_gamma_holds_in_the_spot_and_fades_out() -> None:
    images, spot = make_wide_images(), make_spot(1, 0.01, 4)
    found = local_gamma(images, spot)
    for b, exponent in enumerate((1, 0.01, 4)):
        image, share = images[b].numpy(), slow_map(spot, b)
        np.testing.assert_allclose(found[b], (1 - share) * image + share * image**exponent, atol=1e-9)


def test_blank_windows_take_their_mean_one_after_the_other() -> None:
    images = make_wide_images()
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
