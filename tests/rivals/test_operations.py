"""Operations against scipy and plain loops, their draws by their distributions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from coopseg.rivals.operations import (
    around_one,
    blur,
    brighten,
    contrast,
    deviation,
    gamma,
    low_resolution,
    median,
    perhaps,
    sharpen,
    still_map,
    warp,
)
from coopseg.training.augmentation import source_points


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


MANY = 20_000


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
