"""Label maps drawn by hand: shells in oblique grids, and stacks of discs."""

from __future__ import annotations

import math

import numpy as np

NAMES = ("background", "LV", "MYO", "RV")
STACK = np.diag([1.5, 1.5, 8.0, 1.0])


def oblique(
    sides: tuple[float, float, float] = (1.5, 1.2, 8.0), shear: float = 0.1, seed: int = 0
) -> np.ndarray:
    """An affine with these voxel sides in mm, turned at random and sheared."""
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    sheared = np.eye(3)
    sheared[0, 2] = shear
    axes = turn @ sheared
    affine = np.eye(4)
    affine[:3, :3] = axes / np.linalg.norm(axes, axis=0) * sides
    affine[:3, 3] = (10, -20, 30)
    return affine


def shells(affine: np.ndarray, shape: tuple[int, int, int], cavity: float, wall: float) -> np.ndarray:
    """LV within `cavity` mm of the grid's middle, MYO around it up to `wall` mm, RV in a ball beside it."""
    labels = np.zeros(shape, np.uint8)
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    beside = middle + affine[:3, 0] / np.linalg.norm(affine[:3, 0]) * (wall + 9)
    for place in np.ndindex(shape):
        point = affine[:3, :3] @ np.array(place)
        if math.dist(point, beside) <= 12:
            labels[place] = 3
        if math.dist(point, middle) <= wall:
            labels[place] = 2
        if math.dist(point, middle) <= cavity:
            labels[place] = 1
    return labels


def rings(slices: int = 6, size: int = 24, cavity: int = 5, wall: int = 3) -> np.ndarray:
    """A stack (size, size, slices) of discs of LV within rings of MYO, an RV beside them."""
    u, v = np.meshgrid(np.arange(size) - size // 2, np.arange(size) - size // 2, indexing="ij")
    away = np.hypot(u, v)
    plane = np.zeros((size, size), np.uint8)
    plane[(np.hypot(u + cavity + wall + 1, v) <= 3)] = 3
    plane[away <= cavity + wall] = 2
    plane[away <= cavity] = 1
    return np.repeat(plane[..., None], slices, axis=2)
