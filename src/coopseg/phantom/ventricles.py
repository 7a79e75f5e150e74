"""Describes both ventricles as continuous functions of angle, level and phase, with their true volumes.

Radii are measured from the LV's axis, at every level (mm below the base at end diastole) and angle: those of
the LV's cavity, of the epicardium, and of the RV's outer border. By end systole the base comes down, the
cavity narrows, and each sector of myocardium keeps 97 % of its volume, so the wall thickens. Radius,
contraction and the RV's reach are solved for the volumes that the patient should have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from coopseg.phantom.anatomy import Heart

ANGLES = np.linspace(0, 2 * np.pi, 360, endpoint=False)
LEVELS = 150  # of the numerical integration
DENSITY = 1.05  # g/ml of myocardium
KEPT = 0.97  # of the myocardial volume at end systole; the rest is blood pressed out of its vessels


@dataclass(frozen=True)
class Motion:
    """Holds what is solved for: the cavity's radius (mm) and contraction, the RV's reach (mm) at ED, ES."""

    radius: float
    contraction: float
    reach: tuple[float, float]


@dataclass(frozen=True)
class Contours:
    """Holds radii in mm, each (levels, angles); 0 where the structure is not there.

    endo, epi: inner and outer border of the LV's wall. near, far: borders of the RV's cavity.
    depth: (levels,) share of the way from the LV's base to its apex, negative above the base.
    """

    endo: np.ndarray
    epi: np.ndarray
    near: np.ndarray
    far: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class Volumes:
    """Holds volumes in ml."""

    lv: float
    rv: float
    myocardium: float


def solve_motion(heart: Heart) -> Motion:
    """Finds the motion that meets the volumes and ejection fractions of `heart`."""
    radius = float(np.sqrt(heart.lv_edv / _lv_volume(heart, Motion(1.0, 0.0, (0.0, 0.0)), 0.0)[0]))

    def squeezed(share: float) -> Motion:
        return Motion(radius, share, (0.0, 0.0))

    systole = heart.lv_edv * (1 - heart.lv_ef)
    contraction = float(
        brentq(lambda share: _lv_volume(heart, squeezed(share), 1.0)[0] - systole, 0, 0.95, xtol=1e-6)
    )
    reach = (
        _solve_reach(heart, squeezed(contraction), 0.0, heart.rv_edv),
        _solve_reach(heart, squeezed(contraction), 1.0, heart.rv_edv * (1 - heart.rv_ef)),
    )
    return Motion(radius, contraction, reach)


def volumes(heart: Heart, motion: Motion, phase: float) -> Volumes:
    """Integrates over angle and level, without any image grid. phase: 0 end diastole, 1 end systole."""
    cavity, outer = _lv_volume(heart, motion, phase)
    levels, step = _rv_levels(heart, phase)
    found = contours(heart, motion, levels, phase)
    return Volumes(cavity, _integral(found.far**2 - found.near**2, step), outer - cavity)


def _lv_volume(heart: Heart, motion: Motion, phase: float) -> tuple[float, float]:
    """Returns ml within the cavity's border and within the epicardium."""
    depth = (np.arange(LEVELS) + 0.5) / LEVELS
    step = (heart.length - heart.shortening * phase) / LEVELS
    endo, epi = _lv_radii(heart, motion, depth[:, None], phase)
    return _integral(endo**2, step), _integral(epi**2, step)


def _integral(squares: np.ndarray, step: float) -> float:
    """Returns ml from squared radii in mm² (levels, angles), levels `step` mm apart."""
    return float(squares.mean(1).sum() * np.pi * step / 1000)


def _rv_levels(heart: Heart, phase: float) -> tuple[np.ndarray, float]:
    """Returns levels between the RV's base and its tip, and their distance."""
    top, bottom = _rv_span(heart, phase)
    step = (bottom - top) / LEVELS
    return top + (np.arange(LEVELS) + 0.5) * step, step


def _rv_span(heart: Heart, phase: float) -> tuple[float, float]:
    return heart.rv_shortening * phase - heart.rv_above, heart.rv_length * heart.length


def contours(heart: Heart, motion: Motion, levels: np.ndarray, phase: float) -> Contours:
    """Returns every contour at `levels` (n,) mm below the base at end diastole."""
    base = heart.shortening * phase
    depth = (levels - base) / (heart.length - base)
    endo, epi = _lv_radii(heart, motion, depth.clip(0, 1)[:, None], phase)
    reach = (1 - phase) * motion.reach[0] + phase * motion.reach[1]
    bulge = reach * _rv_profile(heart, levels, phase)
    inside, beside = ((depth >= 0) & (depth < 1))[:, None], bulge > 0
    return Contours(
        np.where(inside, endo, 0), np.where(inside, epi, 0), np.where(beside, epi, 0),
        np.where(beside, epi + bulge, 0), depth,
    )  # fmt: skip


def _lv_radii(heart: Heart, motion: Motion, depth: np.ndarray, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the radii (levels, angles) of cavity and epicardium. depth: (levels, 1) in 0 to 1."""
    wall = heart.wall * (1 + heart.septum * np.exp(-((_turned(np.pi - 0.4) / 0.9) ** 2)))
    closed = 1 - 0.85 * heart.wall / heart.length  # the cavity ends above the tip
    outline = np.ones(len(ANGLES))
    for order, (size, turn) in enumerate(heart.ovals, start=2):
        outline += size * np.cos(order * ANGLES - turn)
    outline *= 1 - heart.flattening * np.exp(-((_turned(np.pi) / 0.7) ** 2))
    barrel = 1 - 0.9 * (0.3 - depth).clip(0) ** 2
    radius = motion.radius * outline * barrel
    still, moving = _infarct(heart, depth)
    wall = wall * (1 - 0.3 * still)
    rest = radius * np.sqrt(1 - (depth / closed).clip(0, 1) ** heart.taper)
    outer = np.maximum(radius + wall, 0) * np.sqrt(1 - depth**heart.taper)
    endo = rest * (1 - phase * motion.contraction * moving * (1 + 0.1 * depth))
    stretch = heart.length / (heart.length - heart.shortening * phase) * (1 - (1 - KEPT) * phase)
    return endo, np.sqrt(endo**2 + (outer**2 - rest**2) * stretch)


def _infarct(heart: Heart, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how much of the wall is scar and of the motion is left, at every level and angle."""
    angle, level, severity = heart.infarct
    scar = severity * np.exp(-((_turned(angle) / 0.9) ** 4) - ((depth - level) / 0.45) ** 4)
    return scar, 1 - scar


def _turned(angle: float) -> np.ndarray:
    """Returns ANGLES counted from `angle`, -pi to pi."""
    return (ANGLES - angle + np.pi) % (2 * np.pi) - np.pi


def _rv_profile(heart: Heart, levels: np.ndarray, phase: float) -> np.ndarray:
    """Returns the relative distance (levels, angles) of the RV's outer border from the epicardium."""
    top, bottom = _rv_span(heart, phase)
    depth = ((levels - top) / (bottom - top))[:, None]
    inside = (depth >= 0) & (depth < 1)
    depth = depth.clip(0, 1)
    width = heart.rv_width * (1 - 0.3 * depth**1.5) * (1 - 0.04 * phase)
    across = _turned(heart.rv_angle) / width
    height = (1 - depth**1.7) * (1 - 0.8 * (0.25 - depth).clip(0) ** 2)
    # fullest in front at the base (outflow); further down fullest below, where it lies on the diaphragm
    skew = 1 + (heart.rv_skew + 0.2 - 0.6 * depth) * np.sin(across * np.pi / 2)
    skew += 0.12 * np.cos(2.5 * np.pi * across) * (1 - depth)
    return np.where(inside & (abs(across) < 1), height * (1 - across.clip(-1, 1) ** 2) ** 0.95 * skew, 0)


def _solve_reach(heart: Heart, motion: Motion, phase: float, wanted: float) -> float:
    """Returns the reach (mm) that makes the RV `wanted` ml; the volume is quadratic in it."""
    levels, step = _rv_levels(heart, phase)
    base = heart.shortening * phase
    depth = ((levels - base) / (heart.length - base)).clip(0, 1)[:, None]
    epi, profile = _lv_radii(heart, motion, depth, phase)[1], _rv_profile(heart, levels, phase)
    linear, square = _integral(2 * epi * profile, step), _integral(profile**2, step)
    return float((np.sqrt(linear**2 + 4 * square * wanted) - linear) / (2 * square))
