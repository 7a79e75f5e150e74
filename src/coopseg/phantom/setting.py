"""Prepares what all slices of one patient in one scanner share: grid, levels, signals, coils, affine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from coopseg.phantom.acquire import coil_shading
from coopseg.phantom.anatomy import Anatomy, Heart
from coopseg.phantom.chest import Texture, plane_axes, sample_texture
from coopseg.phantom.grid import FINE, Grid
from coopseg.phantom.heart import RV_WALL
from coopseg.phantom.site import Site
from coopseg.phantom.tissue import signal_table
from coopseg.phantom.ventricles import ANGLES, Motion, contours
from coopseg.phantom.waves import Waves, sample_waves

GRAIN = (1.2, 5.0)  # mm, widths of the texture within a tissue
TEXTURE = 512  # samples along each side of the patch from which slices take their texture


@dataclass(frozen=True)
class Setting:
    """Holds all that the slices of a patient share.

    levels: (slices,) mm below the base at end diastole. shifts: (slices, 2) mm, by breathing. table: signals
    by tissue and offset. field: pattern of the off-resonance. front: mm that the heart reaches towards the
    breastbone. grain: (TEXTURE, TEXTURE) patch of texture, standard deviation 1.
    """

    anatomy: Anatomy
    site: Site
    motion: Motion
    grid: Grid
    levels: np.ndarray
    shifts: np.ndarray
    table: np.ndarray
    field: Waves
    grain: np.ndarray
    chest_texture: Texture
    front: float


def prepare(anatomy: Anatomy, motion: Motion, site: Site, scale: float) -> Setting:
    """Sample what is left to chance. scale: size of the image's matrix relative to the site's own."""
    rng = np.random.default_rng(anatomy.position.seed)
    columns, rows = (2 * round(n * scale / 2) for n in site.matrix)
    pixel = site.view[0] / columns * (1 + site.zoom * rng.uniform(-1, 1))
    first = anatomy.position.first * site.distance - anatomy.heart.rv_above
    count = int(np.ceil((anatomy.heart.length - first) / site.distance)) + anatomy.position.beyond
    fine, coarse = (
        gaussian_filter(rng.standard_normal((TEXTURE, TEXTURE), np.float32), FINE * size / pixel, mode="wrap")
        for size in GRAIN
    )
    return Setting(
        anatomy, site, motion, Grid(columns, rows, pixel),
        levels=first + site.distance * np.arange(count),
        shifts=rng.normal(0, anatomy.position.breath, (count, 2)),
        table=signal_table(field=site.field, flip=site.flip, repetition=site.repetition),
        field=sample_waves(rng, count=6, shortest=160, longest=400),
        chest_texture=sample_texture(anatomy.chest.seed),
        front=_front(anatomy.heart, motion, plane_axes(anatomy.chest)),
        grain=np.sqrt(0.5) * (fine / fine.std() + coarse / coarse.std()),
    )  # fmt: skip


def _front(heart: Heart, motion: Motion, axes: np.ndarray) -> float:
    """Returns the mm that the heart reaches towards the breastbone."""
    level = 0.3 * heart.length
    far = contours(heart, motion, np.array([level]), 0.0).far[0]
    back = far * (np.cos(ANGLES) * axes[0][1] + np.sin(ANGLES) * axes[1][1])
    return float(RV_WALL + heart.fat - back.min() - (level - heart.length / 2) * axes[2][1])


def shading_of(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """Returns the shading (slices, X, Y) of four coils on the chest and two on the back."""
    axes = plane_axes(setting.anatomy.chest)
    front, back = -0.7 * setting.anatomy.chest.size[1], 1.1 * setting.anatomy.chest.size[1]
    across = ((-90, front), (30, front), (-30, back))
    places = [(left, behind, up) for left, behind in across for up in (-70, 60)]
    moved = (np.array(places) + rng.normal(0, 15, (len(places), 3))) @ axes.T
    x, y = (
        side - np.float32(shift)
        for side, shift in zip(setting.grid.axes(), setting.anatomy.position.centre, strict=True)
    )
    middle = setting.anatomy.heart.length / 2
    return np.stack([coil_shading(setting.site, moved, x, y, level - middle) for level in setting.levels])


def affine_of(setting: Setting) -> np.ndarray:
    """Returns the (4, 4) affine, voxel index to RAS+ mm.

    If the site is not oblique, it is as ACDC stores it, with slices from the base.
    """
    grid, site = setting.grid, setting.site
    if not site.oblique:
        return np.diag([-grid.pixel, -grid.pixel, site.distance, 1.0])
    steps = plane_axes(setting.anatomy.chest) * np.array([[grid.pixel], [grid.pixel], [site.distance]])
    affine = np.eye(4)
    affine[:3, :3] = (steps * np.array([-1, -1, 1])).T
    affine[:3, 3] = -affine[:3, :3] @ [(grid.columns - 1) / 2, (grid.rows - 1) / 2, 0]
    return affine
