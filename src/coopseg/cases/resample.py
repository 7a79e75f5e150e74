"""In-plane resampling, with one convention for the way there and the way back.

Pixel centres count, and the centres of both images coincide: along an axis of n pixels that becomes one
of m pixels with `step` (old pixels a new pixel), the new pixel j lies at the old coordinate
(j - (m - 1) / 2) * step + (n - 1) / 2. The spacing is then met exactly, whatever m is rounded to, and the
way back is the same formula with 1 / step. Coordinates beyond the outermost centres take the outermost
pixel. There is no low-pass filter before a coarser grid: the spacings of short-axis MR lie close together.

Linear interpolation is one weighted pair of neighbours an axis: a few passes over memory, without BLAS,
whose threads stall for half a second where a training run holds the cores.
"""

from __future__ import annotations

import numpy as np


def resampled_length(length: int, step: float) -> int:
    """Pixels that cover the extent of `length` pixels when one new pixel is `step` old ones; at least 1."""
    return max(1, round(length / step))


def source_coordinates(length: int, new_length: int, step: float) -> np.ndarray:
    """(new_length,) float64: the new pixels' centres in old pixels, held within [0, length - 1]."""
    coordinates = (np.arange(new_length) - (new_length - 1) / 2) * step + (length - 1) / 2
    return coordinates.clip(0, length - 1)


def interpolate_linear(volume: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Linear interpolation of (..., H, W) at every pair of a row and a column coordinate, in pixels.

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
    """The label at the nearest centre, for (..., H, W) and coordinates as above; ties go up."""
    for axis, coordinates in ((-1, columns), (-2, rows)):
        nearest = np.floor(coordinates + 0.5).astype(int).clip(0, labels.shape[axis] - 1)
        labels = labels.take(nearest, axis)
    return labels
