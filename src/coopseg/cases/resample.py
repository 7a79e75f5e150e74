"""Resamples in-plane, with one convention for the way there and the way back.

Coordinates are those of pixel centres, and the centres of both images coincide. If an axis of n pixels
becomes one of m pixels with `step` old pixels per new pixel, the new pixel j lies at the old coordinate
(j - (m - 1) / 2) * step + (n - 1) / 2. The spacing is then met exactly, however m is rounded, and the
way back is the same formula with 1 / step. Coordinates beyond the outermost centres take the outermost
pixel. There is no low-pass filter before a coarser grid: the spacings of short-axis MR lie close together.

Linear interpolation weights one pair of neighbours per axis, in a few passes over memory. It avoids BLAS,
whose threads stall for half a second when a training run holds the cores.
"""

from __future__ import annotations

import numpy as np


def resampled_length(length: int, step: float) -> int:
    """Returns how many new pixels of `step` old ones cover `length` old pixels; at least 1."""
    return max(1, round(length / step))


def source_coordinates(length: int, new_length: int, step: float) -> np.ndarray:
    """Returns (new_length,) float64: the new pixels' centres in old pixels, clipped to [0, length - 1]."""
    coordinates = (np.arange(new_length) - (new_length - 1) / 2) * step + (length - 1) / 2
    return coordinates.clip(0, length - 1)


def interpolate_linear(volume: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolates (..., H, W) linearly at every pair of a row and a column coordinate, in pixels.

    Returns (..., len(rows), len(columns)) float32 in the range of the input; coordinates beyond the
    outermost centres take the outermost pixel. An axis already on its coordinates is not touched.
    """
    volume = volume.astype(np.float32, copy=False)
    for axis, coordinates in ((-1, columns), (-2, rows)):
        last = volume.shape[axis] - 1
        if np.array_equal(coordinates, np.arange(last + 1)):
            continue
        held = coordinates.clip(0, last)
        left = np.floor(held).astype(int)
        weight = (held - left).astype(np.float32).reshape(-1, *[1] * (-1 - axis))
        first = volume.take(left, axis)
        volume = volume.take(np.minimum(left + 1, last), axis)
        volume -= first
        volume *= weight
        volume += first
    return volume


def take_nearest(labels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Takes labels (..., H, W) at the nearest centres, coordinates as in `interpolate_linear`; ties go up."""
    for axis, coordinates in ((-1, columns), (-2, rows)):
        nearest = np.floor(coordinates + 0.5).astype(int).clip(0, labels.shape[axis] - 1)
        labels = labels.take(nearest, axis)
    return labels
