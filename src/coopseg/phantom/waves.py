"""Makes smooth random irregularity: sums of plane waves, which are the same at every resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Waves:
    """Holds plane waves in three dimensions. vectors: (n, 3) rad / mm; phases, weights: (n,)."""

    vectors: np.ndarray
    phases: np.ndarray
    weights: np.ndarray

    def on_plane(self, x: np.ndarray, y: np.ndarray, axes: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Returns (len(x), len(y)) values, deviation about 1, at origin + x · axes[0] + y · axes[1]."""
        along = self.vectors @ axes.T
        left = along[:, :1] * x + (self.vectors @ origin + self.phases)[:, None]
        right = along[:, 1:2] * y
        weighted = np.concatenate([np.cos(left), np.sin(left)]) * np.tile(self.weights, 2)[:, None]
        return (weighted.T @ np.concatenate([np.cos(right), -np.sin(right)])).astype(np.float32)


def sample_waves(rng: np.random.Generator, *, count: int, shortest: float, longest: float) -> Waves:
    """Draws `count` waves with lengths (mm) between two bounds, in all directions; long ones are stronger."""
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), count))
    weights = lengths * rng.uniform(0.5, 1.0, count)
    weights *= np.sqrt(2 / (weights**2).sum())
    return Waves(directions * (2 * np.pi / lengths)[:, None], rng.uniform(0, 2 * np.pi, count), weights)
