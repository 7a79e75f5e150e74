"""Lays out the volume of each structure through the phases; the page's script moves a line along it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coopseg.pages.series import Series

WIDTH, HEIGHT = 520, 240  # of the drawing; it is scaled to the page
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 28, 30  # margins around the axes


@dataclass(frozen=True)
class Curve:
    """Holds a drawing of WIDTH × HEIGHT. lines: colour and the points of an SVG polyline, by structure.

    marks: name and place of the phases that have one, ED and ES. most: volume at the top of the axis. step:
    between two phases. words: what it shows.
    """

    lines: tuple[tuple[str, str], ...]
    marks: tuple[tuple[str, float], ...]
    most: float
    step: float
    words: str


def draw_volumes(series: Series, marks: Mapping[str, int]) -> Curve | None:
    """Draws the curves of a series; None if there is one phase only, whose volumes need no drawing.

    marks: phases, counted from 0, by their names, such as ED.
    """
    count = len(series.phases)
    if count < 2:
        return None
    most = max((max(each.volumes) for each in series.structures), default=0.0) or 1.0
    step, floor = (WIDTH - LEFT - RIGHT) / (count - 1), HEIGHT - BOTTOM
    lines, words = [], []
    for each in series.structures:
        heights = (floor - value / most * (floor - TOP) for value in each.volumes)
        lines.append((each.colour, " ".join(f"{LEFT + step * i:.1f},{y:.1f}" for i, y in enumerate(heights))))
        words.append(f"{each.name} {min(each.volumes):.0f} to {max(each.volumes):.0f} {series.unit}")
    places = tuple((name, LEFT + step * phase) for name, phase in marks.items())
    return Curve(tuple(lines), places, most, step, ", ".join(words))
