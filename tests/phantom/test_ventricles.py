"""True volumes: solved as sampled, equal to a count of fine voxels, physiological in every group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coopseg.phantom.anatomy import GROUPS, Heart, sample_anatomy
from coopseg.phantom.heart import LV, MYO, RV, cut, draw_labels
from coopseg.phantom.ventricles import DENSITY, contours, solve_motion, volumes


def sample(group: str, seed: int) -> Heart:
    return sample_anatomy(np.random.default_rng(seed), group).heart


@pytest.mark.parametrize("group", GROUPS)
def test_every_patient_is_physiological_and_as_sampled(group: str) -> None:
    for seed in range(8):
        heart = sample(group, seed)
        motion = solve_motion(heart)
        ed, es = (volumes(heart, motion, phase) for phase in (0.0, 1.0))
        assert ed.lv == pytest.approx(heart.lv_edv, rel=1e-3)
        assert ed.rv == pytest.approx(heart.rv_edv, rel=1e-3)
        assert 1 - es.lv / ed.lv == pytest.approx(heart.lv_ef, abs=1e-3)
        assert 1 - es.rv / ed.rv == pytest.approx(heart.rv_ef, abs=1e-3)
        assert 80 <= ed.lv <= 330
        assert 80 <= ed.rv <= 330
        assert 60 <= DENSITY * ed.myocardium <= 300
        assert es.myocardium == pytest.approx(ed.myocardium, rel=0.1)


@pytest.mark.parametrize("phase", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("group", ["NOR", "MINF", "RV"])
def test_volumes_equal_a_count_of_fine_voxels(group: str, phase: float) -> None:
    heart = sample(group, 3)
    motion = solve_motion(heart)
    side = np.arange(-100, 100, 0.8, dtype=np.float32)
    levels = np.arange(-12, heart.length + 1, 1.0) + 0.31
    counts: Any = sum(
        np.bincount(draw_labels(cut(heart, motion, level, phase), side, side).ravel(), minlength=4)
        for level in levels
    )
    counted = counts * 0.8**2 * 1.0 / 1000
    true = volumes(heart, motion, phase)
    assert counted[LV] == pytest.approx(true.lv, rel=0.015)
    assert counted[MYO] == pytest.approx(true.myocardium, rel=0.015)
    assert counted[RV] == pytest.approx(true.rv, rel=0.015)


def test_groups_are_what_they_are_called() -> None:
    hearts = {group: [sample(group, seed) for seed in range(12)] for group in GROUPS}
    lv_ef = {group: np.mean([heart.lv_ef for heart in found]) for group, found in hearts.items()}
    assert lv_ef["DCM"] < lv_ef["MINF"] < 0.45 < 0.5 < lv_ef["NOR"] < lv_ef["HCM"]
    assert min(heart.lv_edv for heart in hearts["DCM"]) > max(heart.lv_edv for heart in hearts["NOR"])
    assert min(heart.rv_edv for heart in hearts["RV"]) > np.mean([heart.rv_edv for heart in hearts["NOR"]])
    assert min(heart.wall * (1 + heart.septum) for heart in hearts["HCM"]) > 13  # mm


def test_an_infarct_stands_still_and_the_rest_moves() -> None:
    heart = sample("MINF", 1)
    motion = solve_motion(heart)
    angle, depth, _ = heart.infarct
    radii = []
    for phase in (0.0, 1.0):  # the same place in the wall, which comes down with the base
        base = heart.shortening * phase
        found = contours(heart, motion, np.array([base + depth * (heart.length - base)]), phase)
        radii.append(found.endo[0])
    shrink = 1 - radii[1] / radii[0]
    place = round(angle / (2 * np.pi) * len(shrink)) % len(shrink)
    opposite = (place + len(shrink) // 2) % len(shrink)
    assert shrink[place] < 0.35 * shrink[opposite]
    assert shrink[opposite] > 0.1


def test_a_healthy_wall_thickens() -> None:
    heart = sample("NOR", 2)
    motion = solve_motion(heart)
    walls = []
    for phase in (0.0, 1.0):
        base = heart.shortening * phase
        found = contours(heart, motion, np.array([base + 0.4 * (heart.length - base)]), phase)
        walls.append(float((found.epi - found.endo).mean()))
    assert 1.25 < walls[1] / walls[0] < 2.2
