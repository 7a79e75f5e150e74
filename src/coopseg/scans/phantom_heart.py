"""A short-axis heart made of geometry, as one of three made-up scanners sees it.

A left-ventricular cavity in a ring of myocardium, the crescent of the right ventricle, a chest with fat,
lungs, liver, spine and aorta around them; taper from base to apex, contraction from end diastole to end
systole, partial volume, a bias field, texture and Rician noise. Millimetres are true. Scanners differ in
contrast, noise, resolution and field of view; the hearts they see are drawn alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

LV, MYO, RV = 3, 2, 1  # in ACDC's values
THICKNESS = 10.0  # mm from slice to slice


@dataclass(frozen=True)
class Site:
    """How a scanner shows tissue. Intensities are relative to full scale; fields of view in mm."""

    name: str
    centre: int
    view: tuple[float, float]  # columns, rows
    blood: float
    myocardium: float
    muscle: float
    fat: float
    lung: float
    gamma: float
    noise: float
    bias: float


ACDC = Site("Phantom A", 0, (300, 262.5), 0.80, 0.30, 0.36, 0.95, 0.07, 1.0, 0.035, 0.25)
MNMS = (
    Site("Phantom B", 1, (240, 240), 0.62, 0.36, 0.42, 0.70, 0.12, 1.2, 0.06, 0.5),
    Site("Phantom C", 2, (250, 250), 0.70, 0.22, 0.50, 0.55, 0.05, 0.7, 0.05, 0.4),
)


@dataclass(frozen=True)
class Anatomy:
    """One patient, in mm and radians. Enough, with a site and a seed for the noise, to draw every frame."""

    centre: tuple[float, float]  # of the LV from the image's centre, towards left and posterior
    angle: float  # from the patient's right to the RV
    radius: float  # of the cavity at the base, end diastole
    wall: float
    roundness: float  # ratio of the cavity's axes
    rv: float  # size of the RV relative to the LV
    contraction: float  # share of the radius that is gone at end systole
    body: tuple[float, float]
    wander: tuple[tuple[float, float], ...]  # in-plane shift of every slice: breath-holds differ
    noise_seed: int


def sample_anatomy(rng: np.random.Generator, slices: int) -> Anatomy:
    """A patient drawn at random."""
    return Anatomy(
        centre=(rng.uniform(-5, 25), rng.uniform(-20, 10)),
        angle=rng.uniform(-0.1, 0.9),
        radius=rng.uniform(20, 28),
        wall=rng.uniform(7, 12),
        roundness=rng.uniform(0.88, 1.12),
        rv=rng.uniform(0.85, 1.2),
        contraction=rng.uniform(0.2, 0.38),
        body=(rng.uniform(140, 165), rng.uniform(95, 115)),
        wander=tuple((x, y) for x, y in rng.normal(0, 1.2, (slices, 2)).tolist()),
        noise_seed=int(rng.integers(2**31)),
    )


def draw(
    anatomy: Anatomy, site: Site, *, size: int, phase: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One frame: image (X, Y, Z) int16, labels (X, Y, Z) uint8 in ACDC's values, affine (4, 4) in mm.

    size: columns of the image. phase: 0 at end diastole, 1 at end systole.
    """
    pixel = site.view[0] / size
    columns, rows = size, round(site.view[1] / pixel)
    x = (np.arange(columns)[:, None] - (columns - 1) / 2) * pixel
    y = (np.arange(rows)[None, :] - (rows - 1) / 2) * pixel
    levels = np.linspace(0, 1.05, len(anatomy.wander)) * (1 + 0.12 * phase)
    slices = [
        _draw_slice(anatomy, site, x - dx, y - dy, level=level, phase=phase)
        for level, (dx, dy) in zip(levels, anatomy.wander, strict=True)
    ]
    signal, labels = (np.stack(part, axis=-1) for part in zip(*slices, strict=True))
    image = _acquire(signal, site, np.random.default_rng([anatomy.noise_seed, round(100 * phase)]))
    return image, labels, np.diag([-pixel, -pixel, THICKNESS, 1.0])


def _draw_slice(
    anatomy: Anatomy, site: Site, x: np.ndarray, y: np.ndarray, *, level: float, phase: float
) -> tuple[np.ndarray, np.ndarray]:
    """Signal in [0, 1] and labels of one slice; level 0 is the base, 1 the apex."""
    signal = _draw_chest(anatomy, site, x, y, level)
    labels = np.zeros(signal.shape, np.uint8)
    if level >= 1:
        return signal, labels
    taper = (1 - level**2) ** 0.4
    shrink = 1 - anatomy.contraction * phase
    wall = anatomy.wall * (1 + 0.9 * anatomy.contraction * phase)
    outer = (anatomy.radius * shrink + wall) * taper
    inner = max(outer - wall, 0)
    along, across = _heart_axes(anatomy, x, y)
    reach = outer * anatomy.rv * (1 - level**4)
    crescent = ((along - 0.7 * outer) / (0.95 * reach + 1e-6), across / (1.15 * reach + 1e-6))
    distance = np.hypot(along * anatomy.roundness, across / anatomy.roundness)
    rv = np.hypot(*crescent)
    signal[(distance < outer + 6) | (rv * reach < reach + 6)] = 0.75 * site.fat  # around the heart
    signal[rv * reach < reach + 3] = site.myocardium  # the thin wall of the RV, part of no label
    if 0.7 * outer + 0.95 * reach > outer + 6:  # a sliver thinner than this is nobody's label
        labels[rv < 1] = RV
    labels[distance < outer] = MYO
    labels[distance < inner] = LV
    signal[labels == RV] = 0.95 * site.blood
    signal[labels == MYO] = site.myocardium
    signal[labels == LV] = site.blood
    for side in (-1, 1):  # papillary muscles: dark, and counted with the cavity
        papillary = np.hypot(along + 0.45 * inner, across - side * 0.5 * inner) < 0.17 * inner
        signal[papillary] = site.myocardium
    return signal, labels


def _heart_axes(anatomy: Anatomy, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mm towards the RV, which lies to the patient's right and in front, and across."""
    u, v = -(x - anatomy.centre[0]), -(y - anatomy.centre[1])
    cos, sin = np.cos(anatomy.angle), np.sin(anatomy.angle)
    return u * cos + v * sin, v * cos - u * sin


def _draw_chest(anatomy: Anatomy, site: Site, x: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return np.hypot((x - cx) / rx, (y - cy) / ry) < 1

    width, depth = anatomy.body
    signal = np.full(np.broadcast_shapes(x.shape, y.shape), 0.01)
    signal[ellipse(0, 0, width, depth)] = site.fat
    signal[ellipse(0, 0, width - 14, depth - 12)] = site.muscle
    signal[ellipse(-0.5 * width, 0, 0.36 * width, 0.68 * depth)] = site.lung
    signal[ellipse(0.52 * width, 5, 0.36 * width, 0.68 * depth)] = site.lung
    signal[ellipse(-0.45 * width, 0.5 * depth, 70 * level + 1, 45 * level + 1)] = 1.2 * site.muscle  # liver
    signal[ellipse(0, 0.75 * depth, 18, 16)] = 0.6 * site.muscle  # spine
    signal[ellipse(25, 0.55 * depth, 11, 11)] = site.blood  # descending aorta
    return signal


def _acquire(signal: np.ndarray, site: Site, rng: np.random.Generator) -> np.ndarray:
    """What the scanner makes of (X, Y, Z) signal: int16, noise Rician, slices alike in bias."""
    texture = gaussian_filter(rng.normal(size=signal.shape), (1.5, 1.5, 0))
    blurred = gaussian_filter(signal * (1 + 0.12 * texture / texture.std()), (0.6, 0.6, 0)).clip(0)
    x, y = (np.linspace(-1, 1, n) for n in signal.shape[:2])
    a, b, c, d = rng.uniform(-1, 1, 4)
    field = np.exp(site.bias * (a * x[:, None] + b * y[None, :] + c * np.outer(x, y) + d * x[:, None] ** 2))
    real, imaginary = rng.normal(0, site.noise, (2, *signal.shape))
    magnitude = np.hypot(blurred**site.gamma * field[..., None] + real, imaginary)
    return np.rint(1000 * magnitude).astype(np.int16)
