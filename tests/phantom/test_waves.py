"""Sums of plane waves against the sum, written out."""

from __future__ import annotations

import numpy as np

from coopseg.phantom.waves import sample_waves

AXES = np.array([[0.8, 0.0, 0.6], [0.0, 1.0, 0.0]])
ORIGIN = np.array([3.0, -20.0, 7.0])


def test_values_are_those_of_the_sum() -> None:
    waves = sample_waves(np.random.default_rng(0), count=5, shortest=20, longest=80)
    x, y = np.linspace(-30, 30, 7), np.linspace(-10, 40, 5)
    found = waves.on_plane(x, y, AXES, ORIGIN)
    for i, right in enumerate(x):
        for j, down in enumerate(y):
            point = ORIGIN + right * AXES[0] + down * AXES[1]
            slow = sum(
                w * np.cos(v @ point + p)
                for w, v, p in zip(waves.weights, waves.vectors, waves.phases, strict=True)
            )
            assert abs(found[i, j] - slow) < 1e-4


def test_spread_is_one_whatever_the_lengths() -> None:
    side = np.linspace(-2000, 2000, 400)
    for shortest, longest in ((10, 20), (60, 200)):
        waves = sample_waves(np.random.default_rng(1), count=12, shortest=shortest, longest=longest)
        assert 0.8 < waves.on_plane(side, side, AXES, ORIGIN).std() < 1.2
