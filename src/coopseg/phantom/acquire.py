"""Turns a slice's signal into stored intensities: coils, k-space, noise."""

from __future__ import annotations

import numpy as np
from scipy.fft import fft2, fftshift, ifft2, ifftshift

from coopseg.phantom.site import Site


def coil_shading(site: Site, places: np.ndarray, x: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    """Returns the root of the sum of squares of the coils' sensitivities, (len(x), len(y)).

    places: (n, 3) mm of each coil to the right, down and towards the apex. x, y, level: mm, the same axes.
    """
    total = np.zeros((len(x), len(y)), np.float32)
    for right, down, along in places.astype(np.float32):
        square = (x[:, None] - right) ** 2 + (y - down) ** 2 + np.float32((level - along) ** 2)
        total += 1 / (1 + square / np.float32(site.coil**2)) ** 3
    return np.sqrt(total)


def acquire(
    signal: np.ndarray, shading: np.ndarray, site: Site, noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Makes magnitude images, float32 (slices, X, Y), of signed `signal` seen with `shading`, same shape.

    noise: standard deviation of each channel in the image. Noise enters k-space within the measured
    matrix, so that its grain has the acquired resolution; the magnitude makes it Rician.
    """
    shape = signal.shape[1:]
    inner = tuple(2 * max(round(n * share / 2), 4) for n, share in zip(shape, site.acquired, strict=True))
    start = [n // 2 - m // 2 for n, m in zip(shape, inner, strict=True)]
    part = (slice(None), *(slice(s, s + m) for s, m in zip(start, inner, strict=True)))
    space = fftshift(fft2(signal * shading), axes=(1, 2))
    measured = space[part]
    size = np.float32(noise * np.sqrt(np.prod(shape) * np.prod(shape) / np.prod(inner)))
    grain = rng.standard_normal((2, *measured.shape), np.float32) * size
    measured = (measured + grain[0] + 1j * grain[1]) * _window(inner, site.window)
    space[:] = 0
    space[part] = measured
    image = np.abs(ifft2(ifftshift(space, axes=(1, 2))))
    return image / shading ** np.float32(site.correction)


def _window(shape: tuple[int, ...], strength: float) -> np.ndarray:
    """Makes a filter that is a raised cosine along each axis, falling to 1 - strength at the ends."""
    sides = [1 - strength * (1 - np.cos(np.pi * np.linspace(-1, 1, n, dtype=np.float32))) / 2 for n in shape]
    return np.outer(*sides)
