"""The scanner: nothing is lost without noise and truncation, noise is Rician and of the stated size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coopseg.phantom.acquire import acquire, coil_shading
from coopseg.phantom.site import SITES

PLAIN = replace(SITES[0], acquired=(1.0, 1.0), window=0.0, correction=0.0)


def test_a_whole_matrix_without_noise_is_the_signal() -> None:
    rng = np.random.default_rng(0)
    signal, shading = rng.normal(size=(2, 24, 20)), rng.uniform(0.5, 1, (2, 24, 20))
    found = acquire(signal, shading, PLAIN, 0.0, rng)
    np.testing.assert_allclose(found, abs(signal * shading), atol=1e-6)
    corrected = acquire(signal, shading, replace(PLAIN, correction=1.0), 0.0, rng)
    np.testing.assert_allclose(corrected, abs(signal), atol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_noise_has_the_stated_spread(share: float) -> None:
    site = replace(PLAIN, acquired=(share, share))
    flat = np.ones((4, 80, 80), np.float32)
    rng = np.random.default_rng(1)
    assert acquire(10 * flat, flat, site, 0.3, rng).std() == pytest.approx(0.3, rel=0.05)
    # in air both channels are noise: Rayleigh, with mean sigma times the root of pi / 2
    assert acquire(0 * flat, flat, site, 0.3, rng).mean() == pytest.approx(0.3 * np.sqrt(np.pi / 2), rel=0.03)


def test_fewer_data_blur_and_ring() -> None:
    signal = np.zeros((1, 64, 64), np.float32)
    signal[:, 20:44] = 1
    flat, rng = np.ones_like(signal), np.random.default_rng(0)
    coarse = acquire(signal, flat, replace(PLAIN, acquired=(0.4, 1.0)), 0.0, rng)[0, :, 32]
    assert coarse.max() > 1.05  # Gibbs: about 9 % of the step
    assert 0.2 < coarse[19] + coarse[20] < 1.8
    smooth = acquire(signal, flat, replace(PLAIN, acquired=(0.4, 1.0), window=1.0), 0.0, rng)[0, :, 32]
    assert smooth.max() < 1.02


def test_coils_are_brightest_where_they_lie() -> None:
    axis = np.linspace(-100, 100, 41)
    places = np.array([[-80.0, 50.0, 0.0]])
    shading = coil_shading(SITES[0], places, axis, axis, 0.0)
    assert np.unravel_index(shading.argmax(), shading.shape) == (4, 30)
    assert coil_shading(SITES[0], places, axis, axis, 40.0).max() < shading.max()
