"""Draws the heart: ventricles with papillary muscles and trabeculae, atria, great vessels, fat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coopseg.phantom.anatomy import Heart
from coopseg.phantom.scanner import Tissue
from coopseg.phantom.ventricles import ANGLES, Motion, contours

LV, MYO, RV = 3, 2, 1  # in ACDC's values
RV_WALL = 3.0  # mm
ATRIAL_WALL = 1.5
AV_FAT = 5.0
ANNULUS = 7.0  # mm above the valve over which the LV's wall thins to that of the atrium
ORDERS = np.arange(5, 26)  # waves round the circumference that make trabeculae


@dataclass(frozen=True)
class Level:
    """Holds radii (angles,) at one level: contours, the rough borders of the blood, and the outer fat."""

    endo: np.ndarray
    epi: np.ndarray
    near: np.ndarray
    far: np.ndarray
    lv_blood: np.ndarray
    rv_blood: np.ndarray
    outside: np.ndarray
    fat: np.ndarray
    axis: tuple[float, float]
    base: float  # mm of this level below the LV's base
    rv_base: float  # mm below the RV's base
    depth: float  # share of the way from the LV's base to the apex
    atria: tuple[np.ndarray, np.ndarray]  # outlines of the left and the right; 0 below the valves
    radius: float  # of the LV's cavity near the base at end diastole
    papillary: tuple[tuple[float, float, float], ...]  # x, y from the axis, radius


def cut(heart: Heart, motion: Motion, level: float, phase: float) -> Level:
    """Cuts the heart at `level` mm below the base at end diastole."""
    found = contours(heart, motion, np.array([level]), phase)
    endo, epi, near, far = (radii[0] for radii in (found.endo, found.epi, found.near, found.far))
    depth = float(found.depth[0])
    rough, rv_rough = _trabeculae(heart, level)
    growth = (0.6 + 1.6 * max(depth, 0)) * (1 + 0.3 * phase)
    outside = np.maximum(epi, np.where(far > 0, far + RV_WALL, 0))
    return Level(
        endo, epi, near, far,
        lv_blood=np.maximum(endo - heart.trabeculae * growth * rough, 0),
        rv_blood=np.where(far > 0, np.maximum(far - 1.6 * heart.trabeculae * growth * rv_rough, near), 0),
        outside=outside,
        fat=outside + _fat(heart, depth),
        axis=_axis(heart, depth),
        base=level - heart.shortening * phase,
        rv_base=level + heart.rv_above - heart.rv_shortening * phase,
        depth=depth,
        atria=_atria(heart, motion, level, phase),
        radius=motion.radius,
        papillary=_papillary(heart, endo, depth, phase),
    )  # fmt: skip


def draw_labels(cuts: Level, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Draws the labels of this level, uint8 (len(x), len(y)) in ACDC's values."""
    distance, place = polar(cuts, x, y)
    endo, epi, near, far = (radii[place] for radii in (cuts.endo, cuts.epi, cuts.near, cuts.far))
    labels = np.zeros(distance.shape, np.uint8)
    labels[(distance >= near) & (distance < far)] = RV
    labels[distance < epi] = MYO
    labels[distance < endo] = LV
    return labels


def polar(cuts: Level, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mm from the axis and the index of the nearest of ANGLES, each (len(x), len(y))."""
    u, v = x[:, None] - np.float32(cuts.axis[0]), y - np.float32(cuts.axis[1])
    place = np.rint(np.arctan2(v, u) * np.float32(len(ANGLES) / (2 * np.pi))).astype(np.intp)
    return np.hypot(u, v), place % len(ANGLES)


def _axis(heart: Heart, depth: float) -> tuple[float, float]:
    tilt_x, tilt_y, bend_x, bend_y = heart.bend
    straight, bent = depth - 0.5, 4 * depth * (1 - depth)
    return tilt_x * straight + bend_x * bent, tilt_y * straight + bend_y * bent


def _trabeculae(heart: Heart, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns each ventricle's roughness (angles,) inside, 0 to about 3; it runs along the axis."""
    rng = np.random.default_rng(heart.seed)
    phases, drift = rng.uniform(0, 2 * np.pi, (2, len(ORDERS), 1)), rng.normal(0, 0.06, (2, len(ORDERS), 1))
    size = rng.standard_normal((2, len(ORDERS), 1)) / np.sqrt(len(ORDERS) / 2)
    left, right = (size * np.cos(ORDERS[:, None] * ANGLES + phases + drift * level)).sum(1).clip(0)
    return left * (0.2 + 1.3 * np.cos(ANGLES / 2) ** 2), right  # the septum is smooth


def _papillary(
    heart: Heart, endo: np.ndarray, depth: float, phase: float
) -> tuple[tuple[float, float, float], ...]:
    """Places the muscles at this level: higher up free in the cavity, lower down grown onto the wall."""
    along = (depth - 0.22) / 0.5
    if not 0 < along < 1:
        return ()
    found = []
    for angle, size in heart.papillary:
        radius = endo[round(angle / (2 * np.pi) * len(ANGLES)) % len(ANGLES)]
        away = radius * (0.66 + 0.25 * along)
        thick = size * (1 - (2 * along - 1) ** 2) ** 0.4 * (1 + 0.1 * phase)
        for turn, inwards, part in ((-0.16, 0.9, 0.9), (0.14, 1.04, 0.8)):  # each has two heads
            x, y = away * inwards * np.cos(angle + turn), away * inwards * np.sin(angle + turn)
            found.append((x, y, min(part * thick, 0.3 * radius)))
    return tuple(found)


def _fat(heart: Heart, depth: float) -> np.ndarray:
    """Returns mm of fat (angles,) around the heart: most in the grooves, at the base and beside the apex."""
    turned = (ANGLES - heart.rv_angle + np.pi) % (2 * np.pi) - np.pi
    grooves = np.exp(-(((abs(turned) - heart.rv_width) / 0.3) ** 2))
    phases = np.random.default_rng([heart.seed, 1]).uniform(0, 2 * np.pi, (4, 1))
    uneven = np.cos(np.arange(1, 5)[:, None] * ANGLES + phases + 2 * depth).sum(0) / 2
    ends = 7.5 * max(0.2 - depth, 0) + 3 * max(depth - 0.6, 0)
    beside_lung = np.cos(ANGLES + 0.4)
    past = max(1 - max(depth - 1, 0) / 0.12, 0)
    return (heart.fat * (0.35 + 1.5 * grooves + ends + 0.5 * uneven - 0.4 * beside_lung)).clip(0) * past


def draw_heart(cuts: Level, tissue: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Paint one level of the heart over `tissue` (len(x), len(y)), in place."""
    distance, place = polar(cuts, x, y)
    u, v = x[:, None] - np.float32(cuts.axis[0]), y - np.float32(cuts.axis[1])
    tissue[distance < cuts.fat[place]] = Tissue.FAT
    if cuts.base < 0 or cuts.rv_base < 0:
        _draw_atria(cuts, tissue, distance, place, u, v)
    wall = cuts.near[place] - ATRIAL_WALL  # above the LV's base the RV borders on the left atrium
    tissue[(distance >= wall) & (distance < cuts.outside[place])] = Tissue.MYOCARDIUM
    tissue[(distance >= cuts.near[place]) & (distance < cuts.rv_blood[place])] = Tissue.BLOOD
    tissue[distance < cuts.epi[place]] = Tissue.MYOCARDIUM
    tissue[distance < cuts.lv_blood[place]] = Tissue.BLOOD
    for right, down, radius in cuts.papillary:
        tissue[np.hypot(u - np.float32(right), v - np.float32(down)) < radius] = Tissue.MYOCARDIUM


def _draw_atria(
    cuts: Level, tissue: np.ndarray, distance: np.ndarray, place: np.ndarray, u: np.ndarray, v: np.ndarray
) -> None:
    """Draws atria, which continue the ventricles' outlines above each valve, and the great arteries."""
    left, right = (radii[place] for radii in cuts.atria)
    both = np.maximum(left, right)
    tissue[distance < both + AV_FAT * (both > 0)] = Tissue.FAT
    tissue[distance < both + ATRIAL_WALL] = Tissue.MYOCARDIUM
    tissue[distance < both] = Tissue.BLOOD
    # the LV's wall thins out above the valve; the ring also parts the atria
    ring = ATRIAL_WALL + ANNULUS * max(1 + cuts.base / ANNULUS, 0)
    tissue[(distance >= left) & (distance < left + ring) & (left > 0)] = Tissue.MYOCARDIUM
    scale = cuts.radius / 27
    arteries = ((-11.0, -14.0, 12.5, cuts.base < 0), (-27.0, -31.0, 13.5, cuts.rv_base < 0))
    for margin, kind in ((ATRIAL_WALL, Tissue.MYOCARDIUM), (0.0, Tissue.BLOOD)):
        for right, down, radius, present in arteries:
            away = np.hypot(u - np.float32(right * scale), v - np.float32(down * scale))
            tissue[(away < radius * scale + margin) & present] = kind


def _atria(heart: Heart, motion: Motion, level: float, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the radii (angles,) of the left and the right atrium; 0 below their valves."""
    valves = np.array([heart.shortening * phase, heart.rv_shortening * phase - heart.rv_above])
    if level >= valves.max():
        return np.zeros(len(ANGLES)), np.zeros(len(ANGLES))
    left, right = (_dome(float(valve) - level) for valve in valves)
    found = contours(heart, motion, valves + 1e-3, phase)
    return found.endo[0] * left, found.far[1] * right


def _dome(above: float) -> float:
    """Returns an atrium's radius `above` mm over the valve, relative to the valve's; 0 below it."""
    return float(np.sqrt(max(1 - (above / 42) ** 2, 0))) if above > 0 else 0.0
