"""Scales the intensities of a volume to [0, 1]: clipped at percentiles, then slice by slice."""

from __future__ import annotations

import numpy as np


def scale_to_percentiles(
    volume: np.ndarray, percentiles: tuple[float, float]
) -> tuple[np.ndarray, tuple[float, float]]:
    """Clip a volume at two of its percentiles and scale what lies between them to [0, 1].

    volume: any shape, any range. Returns the scaled volume as float32 and the two intensities that
    became 0 and 1; percentiles between two ranks are interpolated linearly. A volume whose two
    percentiles coincide (a constant one, or one that is nearly all padding) becomes zeros.
    """
    low, high = np.percentile(volume, percentiles).astype(np.float32)
    if not high > low:
        return np.zeros(volume.shape, np.float32), (float(low), float(high))
    scaled = (volume.clip(low, high).astype(np.float32, copy=False) - low) / (high - low)
    return scaled, (float(low), float(high))


def minmax_slices(volume: np.ndarray) -> tuple[np.ndarray, tuple[tuple[float, float], ...]]:
    """Scale every slice to [0, 1] by its own least and greatest value; a constant slice becomes zeros.

    volume: (slices, H, W). Returns the scaled volume as float32 and those two values of each slice.
    """
    low = volume.min(axis=(1, 2), keepdims=True)
    high = volume.max(axis=(1, 2), keepdims=True)
    span = np.where(high > low, high - low, 1)
    scaled = ((volume - low) / span).astype(np.float32, copy=False)
    return scaled, tuple(zip(low.ravel().tolist(), high.ravel().tolist(), strict=True))
