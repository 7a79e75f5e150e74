"""Draws what lies around the heart: body wall, lungs, spine, vessels, diaphragm, liver, stomach, spleen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coopseg.phantom.anatomy import Chest
from coopseg.phantom.scanner import Tissue


@dataclass(frozen=True)
class Waves:
    """Holds plane waves in three dimensions. vectors: (n, 3) rad / mm; phases, weights: (n,)."""

    vectors: np.ndarray
    phases: np.ndarray
    weights: np.ndarray

    def on_plane(self, x: np.ndarray, y: np.ndarray, axes: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Returns (len(x), len(y)) values, deviation about 1, at origin + x · axes[0] + y · axes[1]."""
        along = self.vectors @ axes.T
        left = along[:, :1] * x + (self.vectors @ origin + self.phases)[:, None]
        right = along[:, 1:2] * y
        weighted = np.concatenate([np.cos(left), np.sin(left)]) * np.tile(self.weights, 2)[:, None]
        return (weighted.T @ np.concatenate([np.cos(right), -np.sin(right)])).astype(np.float32)


def sample_waves(rng: np.random.Generator, *, count: int, shortest: float, longest: float) -> Waves:
    """Draws `count` waves with lengths (mm) between two bounds, in all directions; long ones are stronger."""
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), count))
    weights = lengths * rng.uniform(0.5, 1.0, count)
    weights *= np.sqrt(2 / (weights**2).sum())
    return Waves(directions * (2 * np.pi / lengths)[:, None], rng.uniform(0, 2 * np.pi, count), weights)


RIBS = 9.0  # mm of the layer that holds ribs and the muscles between them
RIB_DISTANCE = 25.0


@dataclass(frozen=True)
class Texture:
    """Holds a patient's irregularities: what bends every contour, and where vessels run."""

    bends: tuple[Waves, Waves, Waves]
    layers: Waves
    vessels: Waves
    airways: Waves
    bowel: Waves


def sample_texture(seed: int) -> Texture:
    """Draws the texture, which is the same for every slice and frame of a patient."""
    rng = np.random.default_rng(seed)
    bends = [sample_waves(rng, count=10, shortest=45, longest=260) for _ in range(3)]
    return Texture(
        (bends[0], bends[1], bends[2]),
        layers=sample_waves(rng, count=8, shortest=60, longest=250),
        vessels=sample_waves(rng, count=40, shortest=14, longest=38),
        bowel=sample_waves(rng, count=24, shortest=35, longest=80),
        airways=sample_waves(rng, count=48, shortest=9, longest=20),
    )


def plane_axes(chest: Chest) -> np.ndarray:
    """Returns (3, 3) unit vectors as rows: to the image's right, to its lower edge, and from base to apex.

    Coordinates are the patient's left, posterior, superior. The view is from the apex, the RV on the left.
    """
    dip, front = chest.long_axis
    apex = np.array([np.cos(dip) * np.cos(front), -np.cos(dip) * np.sin(front), -np.sin(dip)])
    right = np.array([np.sin(front), np.cos(front), 0.0])
    down = np.cross(apex, right)
    down *= -np.sign(down[2])
    cos, sin = np.cos(chest.turn), np.sin(chest.turn)
    return np.stack([cos * right + sin * down, cos * down - sin * right, apex])


def draw_chest(
    chest: Chest, texture: Texture, x: np.ndarray, y: np.ndarray, below: np.ndarray, front: float
) -> np.ndarray:
    """Draws a tissue map, uint8 (len(x), len(y)), without the heart.

    x, y: mm in the plane from the LV's axis. below: (len(x), len(y)) mm from the heart's middle towards the
    apex. front: mm that the heart reaches forward; the ribs lie in front of that.
    """
    axes = plane_axes(chest)
    middle = np.float32(below.mean())
    bends = [wave.on_plane(x, y, axes[:2], middle * axes[2]) for wave in texture.bends]
    left, back, up = (
        (x[:, None] * np.float32(a) + y * np.float32(b)) + (below * np.float32(c) + np.float32(4) * bend)
        for a, b, c, bend in zip(*axes, bends, strict=True)
    )
    layers = texture.layers.on_plane(x, y, axes[:2], middle * axes[2])
    tissue = np.full(left.shape, Tissue.AIR, np.uint8)
    depth, centre = _wall_depth(chest, left, back, layers, front)
    _draw_wall(chest, tissue, depth, left - centre[0], back - centre[1], up, layers)
    inner = depth > chest.fat + chest.muscle + RIBS
    vessels = texture.vessels.on_plane(x, y, axes[:2], middle * axes[2])
    airways = texture.airways.on_plane(x, y, axes[:2], middle * axes[2])
    bowel = texture.bowel.on_plane(x, y, axes[:2], middle * axes[2])
    tissue[inner] = Tissue.LUNG
    tissue[inner & (airways > 2.2)] = Tissue.BLOOD
    pad = 12 + 7 * layers + 3 * vessels - 0.22 * (abs(left + 0.5 * chest.offset) - 20).clip(0)
    tissue[inner & (depth < chest.fat + chest.muscle + RIBS + pad) & (back < 0)] = Tissue.FAT
    _draw_mediastinum(chest, tissue, inner, left, back)
    _draw_abdomen(chest, tissue, inner, left, back, up, vessels, airways, bowel)
    _draw_spine(chest, tissue, left, back, up)
    return tissue


def _wall_depth(
    chest: Chest, left: np.ndarray, back: np.ndarray, layers: np.ndarray, front: float
) -> tuple[np.ndarray, tuple[float, float]]:
    """Returns mm below the skin (negative outside) and the body's middle; the outline is a squircle."""
    width, thick = chest.size
    walls = chest.fat + chest.muscle + RIBS
    centre = -chest.offset, thick - walls - front
    across, along = ((left - centre[0]) / width) ** 2, ((back - centre[1]) / thick) ** 2
    rim = np.sqrt(across + along - 0.35 * (across * along).clip(0, 1))
    return (1 - rim) * np.sqrt(width * thick) + 2 * layers, centre


def _draw_wall(
    chest: Chest,
    tissue: np.ndarray,
    depth: np.ndarray,
    left: np.ndarray,
    back: np.ndarray,
    up: np.ndarray,
    layers: np.ndarray,
) -> None:
    """Draws skin, fat, muscle with a layer of fat in it, ribs and sternum."""
    fat = chest.fat * (1 + 0.25 * layers)
    ribs = chest.fat + chest.muscle
    tissue[depth > 0] = Tissue.MUSCLE
    tissue[(depth > 1.5) & (depth < fat)] = Tissue.FAT
    between = 0.55 * chest.muscle + 2 * layers
    tissue[abs(depth - fat - between) < 1.2] = Tissue.FAT
    shell = (depth > ribs) & (depth < ribs + RIBS)
    place = ((up + 0.5 * back) / RIB_DISTANCE + 0.2 * layers) % 1
    tissue[shell & (abs(place - 0.5) < 0.3)] = Tissue.CORTEX
    core = abs(depth - ribs - RIBS / 2) < RIBS / 2 - 2
    tissue[core & (abs(place - 0.5) < 0.2)] = Tissue.MARROW
    sternum = shell & (abs(left) < 18) & (back < 0)
    tissue[sternum] = Tissue.CORTEX
    tissue[sternum & core] = Tissue.MARROW


def _draw_mediastinum(
    chest: Chest, tissue: np.ndarray, inner: np.ndarray, left: np.ndarray, back: np.ndarray
) -> None:
    """Draws fat in front of the spine, the oesophagus and the descending aorta."""
    middle, spine = chest.spine[0] - chest.offset, chest.spine[1]
    tissue[inner & (abs(left - middle) < 24) & (back > 25) & (back < spine)] = Tissue.FAT
    tissue[np.hypot(left - middle - 6, back - spine + 32) < 7] = Tissue.MUSCLE
    right, before, radius = chest.aorta
    away = np.hypot(left - middle - right, back - spine - before)
    tissue[away < radius + 1.5] = Tissue.MUSCLE
    tissue[away < radius] = Tissue.BLOOD


def _draw_abdomen(
    chest: Chest,
    tissue: np.ndarray,
    inner: np.ndarray,
    left: np.ndarray,
    back: np.ndarray,
    up: np.ndarray,
    vessels: np.ndarray,
    airways: np.ndarray,
    bowel: np.ndarray,
) -> None:
    """Draws, below the diaphragm, liver to the right, stomach and spleen to the left, fat between them."""
    domes = (
        26 - ((left + chest.offset + 62) / 16) ** 2 - ((back - 25) / 17) ** 2,
        16 - ((left - 50) / 15) ** 2 - ((back - 30) / 16) ** 2,
        np.float32(0) - 0.2 * (-back - 25).clip(0),
    )
    under = np.float32(chest.diaphragm) + np.maximum(np.maximum(domes[0], domes[1]), domes[2]) - up
    under += 0.6 * vessels
    abdomen = inner & (under > 0)
    tissue[abdomen] = Tissue.MUSCLE
    deep = inner & (under > 2.5)
    tissue[deep] = Tissue.FAT
    tissue[deep & (bowel > 0.2)] = Tissue.MUSCLE  # loops of bowel
    tissue[deep & (bowel > 0.7)] = Tissue.STOMACH
    right, behind, radius = chest.stomach
    stomach = np.sqrt(
        ((left - right) / 1.2) ** 2 + (back - behind) ** 2 + (up - chest.diaphragm + radius + 6) ** 2
    )
    tissue[deep & (stomach < radius)] = Tissue.MUSCLE
    filled = deep & (stomach < radius - 4)
    tissue[filled] = Tissue.STOMACH
    tissue[filled & (back < behind - radius * (1 - 2 * chest.gas))] = Tissue.AIR
    spleen = np.sqrt(
        ((left - 72) / 30) ** 2 + ((back - 62) / 42) ** 2 + ((up - chest.diaphragm + 32) / 40) ** 2
    )
    tissue[deep & (spleen < 1)] = Tissue.SPLEEN
    liver = deep & (left < chest.liver_edge - 0.35 * back.clip(-60, 90) - 0.12 * under) & (under < 130)
    tissue[liver] = Tissue.LIVER
    tissue[liver & (vessels > 1.7)] = Tissue.VENOUS
    tissue[liver & (airways < -2.2)] = Tissue.CORTEX


def _draw_spine(chest: Chest, tissue: np.ndarray, left: np.ndarray, back: np.ndarray, up: np.ndarray) -> None:
    """Draws vertebral bodies and discs, spinal canal, muscles of the back."""
    middle, spine = chest.spine[0] - chest.offset, chest.spine[1]
    inside = tissue != Tissue.AIR
    muscles = inside & (abs(abs(left - middle) - 28) < 24) & (back > spine + 14) & (back < spine + 52)
    tissue[muscles & (tissue != Tissue.FAT)] = Tissue.MUSCLE
    body = np.hypot(left - middle, (back - spine) / 0.85)
    disc = abs((up / 27) % 1 - 0.5) < 0.12
    tissue[body < 19] = Tissue.CORTEX
    tissue[(body < 17.5) & ~disc] = Tissue.MARROW
    tissue[(body < 17.5) & disc] = Tissue.MUSCLE
    canal = np.hypot(left - middle, back - spine - 25)
    tissue[canal < 12] = Tissue.CORTEX
    tissue[canal < 9] = Tissue.FLUID
    tissue[canal < 5] = Tissue.MUSCLE
