"""Percentile clip and per-slice scaling, against a definition by sorting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from coopseg.cases.intensity import minmax_slices, scale_to_percentiles


def slow_percentile(volume: np.ndarray, percent: float) -> float:
    """Sort, then interpolate between the two ranks around percent/100 · (n − 1)."""
    ordered = sorted(volume.ravel().tolist())
    rank = percent / 100 * (len(ordered) - 1)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (rank - below) * (ordered[above] - ordered[below])


@pytest.mark.parametrize("percentiles", [(2.0, 98.0), (0.0, 100.0), (0.5, 99.9)])
def test_percentiles_are_those_of_a_sorted_volume(percentiles: tuple[float, float]) -> None:
    volume = np.random.default_rng(0).gamma(2, 300, (5, 17, 13)).astype(np.float32)
    scaled, (low, high) = scale_to_percentiles(volume, percentiles)
    assert low == pytest.approx(slow_percentile(volume, percentiles[0]), rel=1e-6)
    assert high == pytest.approx(slow_percentile(volume, percentiles[1]), rel=1e-6)
    expected = [
        [(min(max(v, low), high) - low) / (high - low) for v in row] for row in volume.reshape(85, 13)
    ]
    np.testing.assert_allclose(scaled.reshape(85, 13), expected, atol=1e-6)
    assert scaled.dtype == np.float32


@pytest.mark.parametrize("value", [0.0, -3.5, 4095.0])
def test_constant_volume_becomes_zeros(value: float) -> None:
    scaled, clip = scale_to_percentiles(np.full((3, 8, 8), value, np.float32), (2, 98))
    assert not scaled.any()
    assert clip == (value, value)


def test_nearly_empty_volume_becomes_zeros() -> None:
    volume = np.zeros((4, 20, 20), np.float32)
    volume[0, 0, 0] = 5
    assert not scale_to_percentiles(volume, (2, 98))[0].any()


def test_minmax_is_per_slice_and_constant_slices_are_zeros() -> None:
    volume = np.random.default_rng(0).normal(size=(3, 6, 5)).astype(np.float32)
    volume[1] = 0.7
    scaled, ranges = minmax_slices(volume)
    for index in (0, 2):
        expected = (volume[index] - volume[index].min()) / (volume[index].max() - volume[index].min())
        np.testing.assert_allclose(scaled[index], expected, atol=1e-6)
        assert ranges[index] == (volume[index].min(), volume[index].max())
    assert not scaled[1].any()
    assert ranges[1] == pytest.approx((0.7, 0.7))


@given(arrays.arrays(np.float32, (2, 3, 4), elements=st.floats(-(2**20), 2**20, width=32)))
def test_any_volume_ends_in_unit_range(volume: np.ndarray) -> None:
    scaled, _ = scale_to_percentiles(volume, (2, 98))
    for result in (scaled, minmax_slices(scaled)[0], minmax_slices(volume)[0]):
        assert result.min() >= 0
        assert result.max() <= 1
