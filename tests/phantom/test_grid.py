"""Samples in a pixel: their means, their places, their levels."""

from __future__ import annotations

import numpy as np

from coopseg.phantom.grid import FINE, Grid, to_pixels

GRID = Grid(columns=4, rows=6, pixel=1.5)


def test_a_pixel_is_the_mean_of_its_samples_and_lies_in_their_middle() -> None:
    fine, coarse = GRID.axes(FINE), GRID.axes()
    for axis in (0, 1):
        samples = np.broadcast_to(fine[axis][:, None] if axis == 0 else fine[axis], (8, 12))
        pixels = np.broadcast_to(coarse[axis][:, None] if axis == 0 else coarse[axis], (4, 6))
        np.testing.assert_allclose(to_pixels(samples), pixels, atol=1e-6)
        assert coarse[axis].sum() == 0


def test_every_pixel_holds_every_level_of_its_slice_once() -> None:
    levels = GRID.stagger(8.0)
    np.testing.assert_allclose(to_pixels(levels), 0, atol=1e-6)
    for i, j in np.ndindex(4, 6):
        assert sorted(levels[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel()) == [-3, -1, 1, 3]
