"""Draws the outlines of structures in a slice."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from contourpy import contour_generator


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Returns the closed outlines of (H, W) bool as (N, 2) points (row, column); none if no pixel is True.

    The centre of a pixel has its indices as coordinates. An outline passes halfway between pixels inside and
    outside, and half a pixel beyond those at the border.

    >>> [line.tolist() for line in outlines(np.eye(1, 3, 1, dtype=bool))]
    [[[0.0, 0.5], [-0.5, 1.0], [0.0, 1.5], [0.5, 1.0], [0.0, 0.5]]]
    """
    # a rim of background closes outlines at the border and moves every pixel by one
    lines = contour_generator(z=np.pad(mask, 1).astype(np.float64)).lines(0.5)
    return [np.asarray(line)[:, ::-1] - 1 for line in lines]


def inner_first(labels: np.ndarray) -> list[int]:
    """Returns the foreground labels of (H, W), those of small extent first: LV, then the MYO around it."""
    extents = {}
    for label in np.unique(labels[labels > 0]).tolist():
        rows, columns = np.nonzero(labels == label)
        extents[label] = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    return sorted(extents, key=lambda label: extents[label])


def borders(labels: np.ndarray) -> list[np.ndarray]:
    """Returns the outlines of all foreground labels of (H, W), where two of them meet only once.

    Dashes of two lines in one place would fill each other's gaps and hide what lies below. Points are those
    of `outlines`; a line that loses a part is open.
    """
    seen: set[frozenset[tuple[float, ...]]] = set()
    found: list[list[tuple[float, ...]]] = []
    for label in inner_first(labels):
        for line in outlines(labels == label):
            points = [tuple(point) for point in line.tolist()]
            found.append(points[:1])
            for start, end in pairwise(points):
                side = frozenset((start, end))
                if side in seen:
                    found.append([end])
                else:
                    found[-1].append(end)
                    seen.add(side)
    return [np.array(points) for points in found if len(points) > 1]


def svg_path(lines: Iterable[np.ndarray], spacing: tuple[float, float]) -> str:
    """Returns outlines, (N, 2) points (row, column), as SVG path data.

    spacing: units of a row and of a column. The upper left corner of the first pixel lies at 0 0.

    >>> svg_path(outlines(np.ones((1, 1), bool)), (2.0, 1.0))
    'M0.0 1.0L0.5 0.0L1.0 1.0L0.5 2.0L0.0 1.0'
    """
    # pixel (0, 0) has its centre at half a pixel from the corner
    placed = [(line + 0.5) * spacing for line in lines]
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in line) for line in placed)
