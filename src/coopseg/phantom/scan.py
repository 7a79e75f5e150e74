"""Scans one patient in one scanner: makes frames of a volume with labels and affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, label

from coopseg.phantom.anatomy import Anatomy, Heart
from coopseg.phantom.chest import Texture, Waves, draw_chest, plane_axes, sample_texture, sample_waves
from coopseg.phantom.heart import RV, RV_WALL, Level, cut, draw_heart, draw_labels
from coopseg.phantom.scanner import (
    FINE,
    OFFSETS,
    RELAXATION,
    STAGGER,
    Grid,
    Site,
    Tissue,
    acquire,
    coil_shading,
    signal_table,
    to_pixels,
)
from coopseg.phantom.ventricles import ANGLES, Motion, contours

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


REACH = 100.0  # mm from the LV's axis beyond which no heart is drawn
TIP = 9.0  # mm of mean radius of the epicardium, below which no LV is labelled


@dataclass(frozen=True)
class Frame:
    """Holds one frame. image: (X, Y, Z) int16. labels: (X, Y, Z) uint8 in ACDC's values."""

    image: np.ndarray
    labels: np.ndarray


def scan(
    anatomy: Anatomy, motion: Motion, site: Site, *, scale: float, phases: Sequence[float]
) -> tuple[list[Frame], np.ndarray]:
    """Makes frames at `phases` (0 end diastole, 1 end systole), and the affine they share.

    scale: size of the image's matrix relative to the site's own; the field of view stays the same.
    """
    setting = prepare(anatomy, motion, site, scale)
    rng = np.random.default_rng([anatomy.position.seed, 1])
    shading = shading_of(setting, rng)
    slices = [_draw_slice(setting, index, phases, rng) for index in range(len(setting.levels))]
    table = setting.table[Tissue.BLOOD, len(OFFSETS) // 2]
    middle = float(np.median(shading[:, shading.shape[1] // 2, shading.shape[2] // 2]))
    gain = site.level / (table * middle ** (1 - site.correction)) * rng.uniform(0.8, 1.25)
    frames = []
    for number in range(len(phases)):
        signal = np.stack([images[number] for images, _ in slices])
        magnitude = acquire(signal, shading, site, table * middle / site.snr, rng) * gain
        image = np.rint(magnitude.clip(0, 32000)).astype(np.int16).transpose(1, 2, 0)
        frames.append(Frame(image, np.stack([labels[number] for _, labels in slices], axis=-1)))
    return frames, affine_of(setting)


def _draw_slice(
    setting: Setting, index: int, phases: Sequence[float], rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draws signed signal (X, Y) and labels (X, Y) of every phase at one slice."""
    anatomy, grid, level = setting.anatomy, setting.grid, float(setting.levels[index])
    right, down = np.array(anatomy.position.centre) + setting.shifts[index]
    x, y = (side - np.float32(shift) for side, shift in zip(grid.axes(FINE), (right, down), strict=True))
    below = np.float32(level - anatomy.heart.length / 2) + grid.stagger(setting.site.thickness)
    background = draw_chest(anatomy.chest, setting.chest_texture, x, y, below, setting.front)
    offset = _off_resonance(setting, x, y, level)
    grain = _grain(setting, background.shape, rng)
    base = _signal(setting, background, offset, grain)
    box = tuple(slice(*(FINE * (np.searchsorted(side[::FINE], (-REACH, REACH))))) for side in (x, y))
    images, labels = [], []
    for phase in phases:
        tissue = background[box].copy()
        for i, j in np.ndindex(FINE, FINE):
            here = level + float(STAGGER[i, j]) * setting.site.thickness
            blurred = float(np.clip(phase + anatomy.position.blur * 4 * STAGGER[j, i], 0, 1))
            draw_heart(
                cut(anatomy.heart, setting.motion, here, blurred),
                tissue[i::FINE, j::FINE], x[box[0]][i::FINE], y[box[1]][j::FINE],
            )  # fmt: skip
        image = base.copy()
        image[box] = _signal(setting, tissue, offset[box], grain[box])
        images.append(to_pixels(image))
        x1, y1 = (side - np.float32(shift) for side, shift in zip(grid.axes(), (right, down), strict=True))
        cuts = cut(anatomy.heart, setting.motion, level, phase)
        labels.append(_as_drawn(draw_labels(cuts, x1, y1), cuts))
    return images, labels


def _signal(setting: Setting, tissue: np.ndarray, offset: np.ndarray, grain: np.ndarray) -> np.ndarray:
    texture = np.array([RELAXATION[kind].texture for kind in Tissue], np.float32)
    return setting.table[tissue, offset] * (1 + texture[tissue] * grain)


def _off_resonance(setting: Setting, x: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    """Returns indices into OFFSETS: what the shim leaves, which rises steeply far from the middle."""
    smooth = setting.field.on_plane(x, y, np.eye(3)[:2], np.array([0, 0, level]))
    far = ((x[:, None] ** 2 + y**2) / np.float32(170**2)) ** 3
    hertz = np.float32(setting.site.shim) * smooth * (1 + 4 * far)
    step = np.float32(OFFSETS[1] - OFFSETS[0])
    return (np.rint(hertz / step).astype(np.int32) + len(OFFSETS) // 2).clip(0, len(OFFSETS) - 1)


def _grain(setting: Setting, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Cuts a piece from the tiled patch of texture, at a random start."""
    start = rng.integers(0, TEXTURE, 2)
    rows, columns = ((np.arange(n) + s) % TEXTURE for n, s in zip(shape, start, strict=True))
    return setting.grain[rows[:, None], columns]


def _as_drawn(labels: np.ndarray, cuts: Level) -> np.ndarray:
    """Changes labels to what an expert draws: no mere tip of the LV, and only the largest piece of the RV."""
    if cuts.epi.mean() < TIP:
        labels[labels != RV] = 0
    parts, count = label(labels == RV, np.ones((3, 3)))
    if count > 1:
        labels[(parts > 0) & (parts != np.bincount(parts.ravel())[1:].argmax() + 1)] = 0
    return labels
