"""The points at which a slice is sampled: several in each pixel, each at a level of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FINE = 2  # samples a pixel along each axis
# of the slice's thickness, from its middle; neighbours differ, so that a pixel holds every level once
STAGGER = np.array([[-0.375, 0.125], [0.375, -0.125]], np.float32)


@dataclass(frozen=True)
class Grid:
    """An image plane in mm: x to its right, y down, 0 in the middle. columns, rows: pixels; pixel: mm."""

    columns: int
    rows: int
    pixel: float

    def axes(self, fine: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """x and y (float32) of the centres of `fine` samples a pixel."""
        return tuple(  # type: ignore[return-value]  # of two
            ((np.arange(n * fine, dtype=np.float32) + 0.5) / fine - n / 2) * np.float32(self.pixel)
            for n in (self.columns, self.rows)
        )

    def stagger(self, thickness: float) -> np.ndarray:
        """(FINE × columns, FINE × rows) mm of each sample below the slice's middle."""
        return np.tile(STAGGER * np.float32(thickness), (self.columns, self.rows))


def to_pixels(samples: np.ndarray) -> np.ndarray:
    """Means over the samples of each pixel: (FINE × X, FINE × Y) to (X, Y)."""
    columns, rows = (n // FINE for n in samples.shape)
    return samples.reshape(columns, FINE, rows, FINE).mean((1, 3))
