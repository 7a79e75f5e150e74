"""Centre crop and its undo by property; the edge warning by counted pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coopseg.cases.crop import centre_start, crop_centre, edge_warning, undo_crop

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
        "MYO: 1 pixels touch the edge of the 8 x 8 crop",
        "RV: 4 of 10 pixels lie outside the crop, 2 pixels touch the edge of the 8 x 8 crop",
    )


def test_edge_warning_on_a_prediction_knows_the_crop_only() -> None:
    prediction = np.zeros((1, 8, 8), np.uint8)
    assert edge_warning(prediction, NAMES) == ()
    prediction[0, 7, 7] = 1
    assert edge_warning(prediction, NAMES) == ("LV: 1 pixels touch the edge of the 8 x 8 crop",)
    assert edge_warning(np.full((1, 8, 8), 0), NAMES) == ()
