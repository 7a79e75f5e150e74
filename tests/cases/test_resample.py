"""In-plane resampling against scipy.ndimage.map_coordinates, and its convention by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from coopseg.cases.resample import interpolate_linear, resampled_length, source_coordinates, take_nearest

GRIDS = [((11, 14), (0.875, 0.875)), ((9, 16), (1.25, 0.6)), ((7, 7), (1.0, 1.3)), ((1, 5), (2.0, 0.5))]


def grid(plane: tuple[int, int], steps: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (
        source_coordinates(n, resampled_length(n, step), step) for n, step in zip(plane, steps, strict=True)
    )
    return rows, columns


@pytest.mark.parametrize(("plane", "steps"), GRIDS)
def test_linear_is_scipys(plane: tuple[int, int], steps: tuple[float, float]) -> None:
    volume = np.random.default_rng(0).normal(size=(2, 3, *plane)).astype(np.float32)
    rows, columns = grid(plane, steps)
    points = np.meshgrid(rows, columns, indexing="ij")
    expected = [[map_coordinates(s, points, order=1, mode="nearest") for s in group] for group in volume]
    np.testing.assert_allclose(interpolate_linear(volume, rows, columns), expected, atol=1e-6)


@pytest.mark.parametrize(("plane", "steps"), GRIDS)
def test_nearest_is_scipys(plane: tuple[int, int], steps: tuple[float, float]) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (3, *plane)).astype(np.uint8)
    rows, columns = grid(plane, steps)
    points = np.meshgrid(rows + 1e-9, columns + 1e-9, indexing="ij")  # scipy, too, then rounds ties up
    expected = [map_coordinates(s, points, order=0, mode="nearest") for s in labels]
    result = take_nearest(labels, rows, columns)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


@given(st.integers(1, 300), st.floats(0.3, 3))
def test_centres_coincide_and_spacing_is_exact(length: int, step: float) -> None:
    new = resampled_length(length, step)
    assert abs(new * step - length) <= step / 2 + 1e-9 or new == 1
    coordinates = source_coordinates(length, new, step)
    np.testing.assert_allclose(coordinates + coordinates[::-1], length - 1, atol=1e-9)
    inner = (coordinates > 0) & (coordinates < length - 1)
    np.testing.assert_allclose(np.diff(coordinates[inner]), step, atol=1e-9)


@given(st.integers(8, 300), st.floats(0.5, 2))
def test_way_back_meets_the_way_there(length: int, step: float) -> None:
    """A new pixel's centre, looked up by the old one's, is where it started."""
    new = resampled_length(length, step)
    there, back = source_coordinates(length, new, step), source_coordinates(new, length, 1 / step)
    positions = np.interp(there, np.arange(length), back)
    margin = 1 + int(np.ceil(1 / step))
    np.testing.assert_allclose(positions[margin:-margin], np.arange(new)[margin:-margin], atol=1e-6)


def test_a_ramp_stays_a_ramp() -> None:
    """Linear interpolation keeps every affine function of position, so the coordinates must be right."""
    rows, columns = grid((40, 50), (0.875, 1.1))
    ramp = 3 * np.arange(40)[:, None] - 2 * np.arange(50)[None] + 5.0
    expected = 3 * rows[:, None] - 2 * columns[None] + 5
    np.testing.assert_allclose(interpolate_linear(ramp, rows, columns), expected, atol=1e-4)


def test_unit_grid_is_untouched() -> None:
    volume = np.random.default_rng(0).normal(size=(2, 9, 8)).astype(np.float32)
    result = interpolate_linear(volume, *grid((9, 8), (1.0, 1.0)))
    assert result is volume
