"""Draws a patient's numbers at random, in ACDC's groups of disease; everything in mm, ml and radians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Group:
    """Holds ranges of the LV's end-diastolic volume (ml), of both ejection fractions and of the wall (mm)."""

    lv_edv: tuple[float, float]
    lv_ef: tuple[float, float]
    rv_ef: tuple[float, float]
    wall: tuple[float, float]


# Consistent with what Bernard et al. 2018 (doi 10.1109/TMI.2018.2837502, section II) say of ACDC's groups.
GROUPS = {
    "NOR": Group(lv_edv=(115, 185), lv_ef=(0.55, 0.70), rv_ef=(0.48, 0.62), wall=(6.8, 9.0)),
    "DCM": Group(lv_edv=(200, 300), lv_ef=(0.15, 0.38), rv_ef=(0.32, 0.52), wall=(7.0, 9.0)),
    "HCM": Group(lv_edv=(105, 165), lv_ef=(0.60, 0.76), rv_ef=(0.52, 0.66), wall=(10.0, 12.5)),
    "MINF": Group(lv_edv=(145, 235), lv_ef=(0.25, 0.40), rv_ef=(0.42, 0.56), wall=(6.8, 9.0)),
    "RV": Group(lv_edv=(100, 165), lv_ef=(0.52, 0.66), rv_ef=(0.20, 0.40), wall=(6.8, 9.0)),
}
RV_ENLARGED = (185, 260)  # ml at end diastole, group RV only


@dataclass(frozen=True)
class Heart:
    """Describes both ventricles. Angles run from the image's right to its lower edge; the septum is at pi."""

    group: str
    lv_edv: float
    lv_ef: float
    rv_edv: float
    rv_ef: float
    length: float  # from the base at end diastole to the tip of the epicardium
    shortening: float  # mm by which the base comes down at end systole
    rv_shortening: float
    rv_above: float  # mm by which the RV's base lies above the LV's
    wall: float  # lateral thickness at the base, at end diastole
    septum: float  # by what share the septum is thicker
    taper: float
    ovals: tuple[tuple[float, float], ...]  # amplitude and phase of orders 2, 3, 4 of the LV's contour
    flattening: float  # of the septum
    infarct: tuple[float, float, float]  # angle, level, depth from 0 (none) to 1 (no motion)
    rv_angle: float
    rv_width: float  # half the angle of the RV's sector at the base
    rv_length: float  # share of the LV's length that the RV reaches down to
    rv_skew: float
    bend: tuple[float, float, float, float]  # mm that the axis tilts and bends, each in x, y
    papillary: tuple[tuple[float, float], ...]  # angle and radius of each muscle
    trabeculae: float  # mm
    fat: float  # mm around the heart
    seed: int  # of the small irregularities


@dataclass(frozen=True)
class Chest:
    """Describes what surrounds the heart. Origin: the middle of the LV; axes go left, posterior, superior."""

    long_axis: tuple[float, float]  # angles of the LV's axis: below the horizontal, and from left to front
    turn: float  # of the image in its plane
    size: tuple[float, float]  # half axes of the body
    offset: float  # mm from the heart to the body's middle, to the patient's right
    fat: float
    muscle: float
    diaphragm: float  # height relative to the heart's middle, negative below it; domes rise from there
    liver_edge: float  # how far the liver reaches to the left
    spine: tuple[float, float]
    aorta: tuple[float, float, float]  # left, posterior, radius
    stomach: tuple[float, float, float]
    gas: float  # share of the stomach that is air
    seed: int


@dataclass(frozen=True)
class Position:
    """Describes how the patient lies in the scanner and breathes."""

    centre: tuple[float, float]  # of the LV from the image's centre, right and down
    first: float  # distance of the first slice below the RV's base, in slice distances
    beyond: int  # slices beyond the apex
    breath: float  # standard deviation of the shift from slice to slice
    blur: float  # share of the beat that an image averages over
    seed: int


@dataclass(frozen=True)
class Anatomy:
    """Describes one patient; with a site this is enough to make every frame."""

    heart: Heart
    chest: Chest
    position: Position


def sample_anatomy(rng: np.random.Generator, group: str) -> Anatomy:
    """Draws a patient of one of GROUPS."""
    heart = _sample_heart(rng, group)
    return Anatomy(heart, _sample_chest(rng), _sample_position(rng))


def _sample_heart(rng: np.random.Generator, group: str) -> Heart:
    ranges = GROUPS[group]
    lv_edv, lv_ef, rv_ef = (rng.uniform(*span) for span in (ranges.lv_edv, ranges.lv_ef, ranges.rv_ef))
    balanced = lv_edv * lv_ef * rng.uniform(1.0, 1.15) / rv_ef  # both ventricles pump the same blood
    rv_edv = rng.uniform(*RV_ENLARGED) if group == "RV" else float(np.clip(balanced, 100, 220))
    length = 96 * (lv_edv / 150) ** (1 / 3) * rng.uniform(0.94, 1.06)
    infarct = (rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.9), rng.uniform(0.7, 1.0))
    return Heart(
        group=group, lv_edv=lv_edv, lv_ef=lv_ef, rv_edv=rv_edv, rv_ef=rv_ef, length=length,
        shortening=length * np.clip(0.24 * lv_ef + rng.normal(0, 0.01), 0.02, 0.2),
        rv_shortening=length * np.clip(0.34 * rv_ef + rng.normal(0, 0.01), 0.04, 0.24),
        rv_above=rng.uniform(2, 9),
        wall=rng.uniform(*ranges.wall),
        septum=rng.uniform(0.4, 0.9) if group == "HCM" else rng.uniform(0.0, 0.2),
        taper=rng.uniform(2.3, 3.2),
        ovals=tuple((rng.normal(0, size), rng.uniform(0, 2 * np.pi)) for size in (0.035, 0.015, 0.008)),
        flattening=rng.uniform(0.08, 0.16) if group == "RV" else rng.uniform(0, 0.04),
        infarct=infarct if group == "MINF" else (0.0, 0.0, 0.0),
        rv_angle=np.pi + rng.normal(-0.3, 0.12),
        rv_width=rng.uniform(1.45, 1.7),
        rv_length=rng.uniform(0.84, 0.96),
        rv_skew=rng.uniform(-0.15, 0.25),
        bend=tuple(rng.normal(0, (4, 4, 3, 3)).tolist()),
        papillary=tuple((rng.normal(*angle), rng.uniform(4.5, 7)) for angle in ((-0.9, 0.15), (1.5, 0.2))),
        trabeculae=rng.uniform(1.0, 2.0),
        fat=rng.uniform(1.0, 4.0),
        seed=int(rng.integers(2**31)),
    )  # fmt: skip


def _sample_chest(rng: np.random.Generator) -> Chest:
    scale = rng.uniform(0.92, 1.08)
    return Chest(
        long_axis=(np.deg2rad(rng.normal(35, 5)), np.deg2rad(rng.normal(38, 5))),
        turn=np.deg2rad(rng.normal(-7, 9)),
        size=(172 * scale * rng.uniform(0.95, 1.05), 118 * scale * rng.uniform(0.93, 1.07)),
        offset=rng.uniform(28, 48),
        fat=rng.gamma(3, 3.5) + 4,
        muscle=rng.uniform(8, 16),
        diaphragm=rng.uniform(-36, -26),
        liver_edge=rng.uniform(-25, 30),
        spine=(rng.normal(0, 4), rng.uniform(66, 80)),
        aorta=(rng.uniform(18, 28), rng.uniform(-20, -10), rng.uniform(10, 14)),
        stomach=(rng.uniform(30, 55), rng.uniform(-5, 30), rng.uniform(32, 46)),
        gas=float(rng.choice([0.0, 0.15, 0.4])),
        seed=int(rng.integers(2**31)),
    )


def _sample_position(rng: np.random.Generator) -> Position:
    return Position(
        centre=(rng.normal(-4, 8), rng.normal(-2, 8)),
        first=rng.uniform(0.2, 0.8),
        beyond=int(rng.integers(0, 2)),
        breath=rng.uniform(0.3, 1.8),
        blur=rng.uniform(0.02, 0.08),
        seed=int(rng.integers(2**31)),
    )
