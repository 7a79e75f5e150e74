"""Outlines of structures in a slice."""

from __future__ import annotations

import numpy as np
import pytest

from coopseg.scans.contours import outlines


def test_outlines_pass_halfway_between_pixels() -> None:
    mask = np.zeros((9, 12), bool)
    mask[2:6, 5:8], mask[8, 11] = True, True  # the second lies in a corner, where its outline closes too
    rectangle, corner = outlines(mask)
    assert np.array_equal(rectangle[0], rectangle[-1])
    assert (rectangle.min(axis=0).tolist(), rectangle.max(axis=0).tolist()) == ([1.5, 4.5], [5.5, 7.5])
    y, x = rectangle.T
    area = abs(np.sum(y[:-1] * x[1:] - y[1:] * x[:-1])) / 2
    assert area == pytest.approx(4 * 3 - 4 / 8)  # an eighth of a pixel is cut off at each corner
    assert corner.max(axis=0).tolist() == [8.5, 11.5]
    assert outlines(mask[:1]) == []
