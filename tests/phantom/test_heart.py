"""The drawn heart: labels against the contours, blood against labels, atria above the valves."""

from __future__ import annotations

import numpy as np
import pytest

from coopseg.phantom.anatomy import GROUPS, sample_anatomy
from coopseg.phantom.heart import LV, MYO, RV, cut, draw_heart, draw_labels
from coopseg.phantom.scanner import Tissue
from coopseg.phantom.ventricles import ANGLES, solve_motion

SIDE = np.arange(-100, 100, 1, dtype=np.float32)


def draw(group: str, share: float, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Tissue and labels at a share of the way from the base at ED to the apex."""
    heart = sample_anatomy(np.random.default_rng(4), group).heart
    cuts = cut(heart, solve_motion(heart), share * heart.length, phase)
    tissue = np.full((len(SIDE), len(SIDE)), Tissue.LUNG, np.uint8)
    draw_heart(cuts, tissue, SIDE, SIDE)
    return tissue, draw_labels(cuts, SIDE, SIDE)


@pytest.mark.parametrize("group", GROUPS)
def test_labels_are_what_is_there(group: str) -> None:
    for share in (0.1, 0.4, 0.7):
        tissue, labels = draw(group, share, 0.0)
        assert (tissue[labels == MYO] == Tissue.MYOCARDIUM).all()
        for cavity in (LV, RV):
            inside = tissue[labels == cavity]
            assert np.isin(inside, [Tissue.BLOOD, Tissue.MYOCARDIUM]).all()
            assert (inside == Tissue.BLOOD).mean() > 0.6
        assert not (tissue[labels == 0] == Tissue.BLOOD).any()


def test_papillary_muscles_stand_in_the_cavity() -> None:
    dark = [((tissue == Tissue.MYOCARDIUM) & (labels == LV)).sum() for tissue, labels in
            (draw("NOR", 0.05, 0.0), draw("NOR", 0.45, 0.0))]  # fmt: skip
    assert dark[1] > dark[0] + 80  # mm²


def test_the_polar_area_is_that_of_the_pixels() -> None:
    heart = sample_anatomy(np.random.default_rng(2), "NOR").heart
    cuts = cut(heart, solve_motion(heart), 30.0, 0.0)
    labels = draw_labels(cuts, SIDE, SIDE)
    wedge = 2 * np.pi / len(ANGLES)
    assert (labels == LV).sum() == pytest.approx((cuts.endo**2).sum() * wedge / 2, rel=0.01)
    assert (labels == RV).sum() == pytest.approx((cuts.far**2 - cuts.near**2).sum() * wedge / 2, rel=0.02)


def test_above_the_valves_blood_has_no_label() -> None:
    tissue, labels = draw("NOR", 0.02, 1.0)  # the base has come down by more than that
    assert not labels.any()
    assert (tissue == Tissue.BLOOD).sum() > 1500  # mm²


def test_beyond_the_apex_there_is_no_heart() -> None:
    tissue, labels = draw("NOR", 1.2, 0.0)
    assert not labels.any()
    assert (tissue == Tissue.LUNG).all()
