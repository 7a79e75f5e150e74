"""What the tests of artefacts share: a draw by name and a volume to put it on."""

from __future__ import annotations

import numpy as np

from coopseg.evaluation.corruptions import Corruption, corruption_generator, sample_corruption

SPACING = (10.0, 1.4, 1.4)


def draw(kind: str, copy: int = 1, severity: float = 1.0) -> Corruption:
    generator = corruption_generator(0, case="a", kind=kind, copy=copy)
    return sample_corruption(kind, generator, severity=severity)


def ring() -> np.ndarray:
    """(5, 64, 48): a bright ring, off centre, on textured ground."""
    rows, columns = np.mgrid[:64, :48]
    radius = np.hypot(rows - 25, columns - 28)
    texture = np.random.default_rng(0).uniform(0, 0.3, (5, 64, 48))
    return np.asarray(texture + 0.7 * ((radius > 6) & (radius < 12)), np.float32)


def rescaled(volume: np.ndarray) -> np.ndarray:
    return np.asarray((volume - volume.min()) / (volume.max() - volume.min()))
