"""Compares an image with what the image decoder makes of its code."""

from __future__ import annotations

import numpy as np


def reconstruction_error(image: np.ndarray, reconstruction: np.ndarray) -> float:
    """Returns the root mean square of the difference: 0 for equal images, at most 1.

    image, reconstruction: of one shape, in [0, 1].

    >>> reconstruction_error(np.zeros((1, 1, 2, 2)), np.full((1, 1, 2, 2), 0.5))
    0.5
    """
    apart = image.astype(np.float64) - reconstruction
    return float(np.sqrt(np.mean(apart**2)))
