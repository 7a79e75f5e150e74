"""Defines the points at which a slice is sampled: several in each pixel, each at its own level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FINE = 2  # samples per pixel along each axis
# levels as shares of the slice's thickness, from its middle; a pixel holds every level once
STAGGER = np.array([[-0.375, 0.125], [0.375, -0.125]], np.float32)


@dataclass(frozen=True)
class Grid:
    """Describes an image plane: x right, y down, in mm from the middle. columns, rows: pixels; pixel: mm."""

    columns: int
    rows: int
    pixel: float

    def axes(self, fine: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Returns x and y (float32) of the centres of `fine` samples per pixel."""
        return tuple(  # type: ignore[return-value]  # of two
            ((np.arange(n * fine, dtype=np.float32) + 0.5) / fine - n / 2) * np.float32(self.pixel)
            for n in (self.columns, self.rows)
        )

    def stagger(self, thickness: float) -> np.ndarray:
        """Returns how many mm each sample lies below the slice's middle, (FINE × columns, FINE × rows)."""
        return np.tile(STAGGER * np.float32(thickness), (self.columns, self.rows))


def to_pixels(samples: np.ndarray) -> np.ndarray:
    """Averages the samples of each pixel: (FINE × X, FINE × Y) to (X, Y)."""
    columns, rows = (n // FINE for n in samples.shape)
    return samples.reshape(columns, FINE, rows, FINE).mean((1, 3))
