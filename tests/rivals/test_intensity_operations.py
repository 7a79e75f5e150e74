"""Operations on intensities against scipy and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from coopseg.rivals.intensity_operations import (
    blur,
    brighten,
    contrast,
    deviation,
    gamma,
    low_resolution,
    median,
    sharpen,
)


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
