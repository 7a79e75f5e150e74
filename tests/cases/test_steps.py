"""Steps against numpy and scipy, and their undoing by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import map_coordinates

from coopseg.cases.steps import (
    centre_start,
    crop_centre,
    edge_warning,
    interpolate_linear,
    minmax_slices,
    resampled_length,
    scale_to_percentiles,
    source_coordinates,
    take_nearest,
    undo_crop,
)


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
    scaled = minmax_slices(volume)
    for index in (0, 2):
        expected = (volume[index] - volume[index].min()) / (volume[index].max() - volume[index].min())
        np.testing.assert_allclose(scaled[index], expected, atol=1e-6)
    assert not scaled[1].any()


@given(arrays.arrays(np.float32, (2, 3, 4), elements=st.floats(-(2**20), 2**20, width=32)))
def test_any_volume_ends_in_unit_range(volume: np.ndarray) -> None:
    scaled, _ = scale_to_percentiles(volume, (2, 98))
    for result in (scaled, minmax_slices(scaled), minmax_slices(volume)):
        assert result.min() >= 0
        assert result.max() <= 1


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


SIDES = st.integers(1, 40)
NAMES = ("background", "LV", "MYO", "RV")


@given(SIDES, SIDES, SIDES, SIDES)
def test_undo_gives_back_what_the_crop_kept(rows: int, columns: int, height: int, width: int) -> None:
    volume = np.arange(1, 2 * rows * columns + 1).reshape(2, rows, columns)
    cropped = crop_centre(volume, (height, width))
    assert cropped.shape == (2, height, width)
    undone = undo_crop(cropped, (rows, columns))
    kept = undone != 0
    np.testing.assert_array_equal(undone[kept], volume[kept])
    assert kept.sum() == 2 * min(rows, height) * min(columns, width)
    np.testing.assert_array_equal(crop_centre(undone, (height, width)), cropped)


@given(SIDES, SIDES)
def test_window_is_centred(length: int, size: int) -> None:
    before, after = -centre_start(length, size), size - length + centre_start(length, size)
    assert abs(before - after) <= 1


def test_padding_is_zero() -> None:
    assert crop_centre(np.ones((1, 2, 2)), (6, 4)).sum() == 4


def test_edge_warning_counts_lost_and_touching_pixels() -> None:
    whole = np.zeros((2, 12, 12), np.uint8)
    whole[0, 5:7, 0:5] = 3  # the crop keeps columns 2 to 9: 4 of 10 pixels are lost, 2 touch
    whole[1, 5:7, 5:7] = 1  # well inside
    whole[1, 2, 6] = 2  # first row of the crop: touches, nothing lost
    crop = crop_centre(whole, (8, 8))
    assert edge_warning(crop, NAMES, whole=whole) == (
        "MYO: reaches the edge of the crop of 8 x 8 pixels",
        "RV: the crop of 8 x 8 pixels cuts off 4 of its 10 pixels",
    )


def test_edge_warning_on_a_prediction_knows_the_crop_only() -> None:
    prediction = np.zeros((1, 8, 8), np.uint8)
    assert edge_warning(prediction, NAMES) == ()
    prediction[0, 7, 7] = 1
    assert edge_warning(prediction, NAMES) == (
        "LV: reaches the edge of the crop of 8 x 8 pixels; more may lie outside",
    )
    assert edge_warning(np.full((1, 8, 8), 0), NAMES) == ()
