"""The chest, and the waves that bend it."""

from __future__ import annotations

import numpy as np
import pytest

from coopseg.phantom.anatomy import Chest, sample_anatomy
from coopseg.phantom.chest import draw_chest, plane_axes, sample_texture, sample_waves
from coopseg.phantom.scanner import Tissue

SIDE = np.arange(-200, 200, 2, dtype=np.float32)


def sample(seed: int) -> Chest:
    return sample_anatomy(np.random.default_rng(seed), "NOR").chest


def draw(chest: Chest, below: float) -> np.ndarray:
    levels = np.full((len(SIDE), len(SIDE)), below, np.float32)
    return draw_chest(chest, sample_texture(chest.seed), SIDE, SIDE, levels, 55.0)


def test_the_plane_is_seen_from_the_apex() -> None:
    for seed in range(20):
        right, down, apex = axes = plane_axes(sample(seed))
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        assert right[0] > 0  # the patient's left is on the right
        assert down[2] < 0  # and what is below, below
        assert (apex * (1, -1, -1) > 0).all()  # the apex points left, forward and down


@pytest.mark.parametrize("seed", range(4))
def test_every_organ_is_there(seed: int) -> None:
    chest = sample(seed)
    volume = np.stack([draw(chest, below) for below in range(-60, 70, 10)])
    assert set(np.unique(volume)) >= set(Tissue) - {Tissue.MYOCARDIUM}
    near = volume[:, 65:135, 65:135]  # 70 mm around the axis
    lung = (near == Tissue.LUNG).sum((1, 2))
    assert lung[1] > 1.5 * lung[-2]  # towards the apex comes the abdomen
    assert (volume == Tissue.AIR)[-1, :, 0].mean() > 0.5  # in front of the chest
    assert (volume[-1] != Tissue.AIR)[100, 150]


def test_organs_lie_where_they_belong() -> None:
    for seed in range(4):
        tissue = draw(sample(seed), 0)
        lung, liver = (np.argwhere(tissue == kind).mean(0) for kind in (Tissue.LUNG, Tissue.LIVER))
        assert lung[1] < liver[1]  # liver below lung
        assert liver[0] < lung[0]  # and further to the patient's right


def test_a_texture_is_the_patients_own() -> None:
    np.testing.assert_array_equal(draw(sample(1), 0), draw(sample(1), 0))
    assert (draw(sample(1), 0) != draw(sample(2), 0)).mean() > 0.1


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
