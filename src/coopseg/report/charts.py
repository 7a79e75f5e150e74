"""Where the marks of a chart lie: lines over steps and strips of dots, in units of a small SVG."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, HEIGHT = 340, 204
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 8, 38  # margins of the plot within
STRIP, STRIP_TOP = 46, 20  # height of a strip and of the line of text above its dots
DOT = 2.6  # radius
ROW = 2 * DOT * 0.9  # between dots that would lie on each other
MOST_TICKS = 7  # of a logarithmic axis
LOG_FROM = 8  # highest over lowest value from which an axis may be logarithmic

Chart = dict[str, Any]


def line_chart(
    lines: Sequence[dict[str, Any]], colours: dict[str, int], *, log: bool = False, level: float | None = None
) -> Chart:
    """Lines over training steps.

    lines: {"method", "run", "steps", "values"} with "dashed" or "best" (a step to be marked). colours: number
    of each method. log: whether the axis may be logarithmic, which it is where values are positive and span
    much. level: a value with a line of its own.
    """
    values = [value for line in lines for value in line["values"]] + ([] if level is None else [level])
    log = log and 0 < LOG_FROM * min(values) < max(values)
    low, high, ticks = _log_axis(values) if log else _axis(values)
    last = max(step for line in lines for step in line["steps"])
    x = _scale(0, last, LEFT, WIDTH - RIGHT)
    y = _scale(low, high, HEIGHT - BOTTOM, TOP, by=math.log10 if log else float)
    steps = [step for step in MaxNLocator(4, integer=True).tick_values(0, last) if 0 <= step <= last]
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM,
        "top": TOP,
        "x_ticks": [{"at": round(x(step), 1), "text": f"{step:,.0f}"} for step in steps],
        "y_ticks": [{"at": round(y(value), 1), "text": f"{value:g}"} for value in ticks],
        "level": None if level is None else round(y(level), 1),
        "log": log,
        "lines": [_line(line, colours, x, y) for line in lines],
    }  # fmt: skip


def _line(
    line: dict[str, Any], colours: dict[str, int], x: Callable[[float], float], y: Callable[[float], float]
) -> dict[str, Any]:
    points = list(zip(line["steps"], line["values"], strict=True))
    marks = [(step, value) for step, value in points if step == line.get("best") or len(points) == 1]
    return {
        "colour": colours[line["method"]],
        "title": f"{line['method']}, {line['run']}",
        "dashed": line.get("dashed", False),
        "path": "M" + "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in points),
        "marks": [{"x": round(x(step), 1), "y": round(y(value), 1)} for step, value in marks],
    }


def strip_chart(column: dict[str, Any], colours: dict[str, int], *, low: float) -> Chart:
    """Strips of dots over Dice from `low` to 1, one a method: every case, the runs' means and their mean."""
    x = _scale(low, 1, 8, WIDTH - 8)
    ticks = [value for value in MaxNLocator(5).tick_values(low, 1) if low <= value <= 1]
    strips = []
    for number, strip in enumerate(column["strips"]):
        top = number * STRIP
        middle = top + (STRIP_TOP + STRIP) / 2
        places = [x(point["dice"]) for point in strip["points"]]
        aside = swarm(places, room=(STRIP - STRIP_TOP) / 2 - DOT)
        strips.append(
            strip
            | {
                "colour": colours[strip["method"]],
                "text_y": top + 13,
                "top": top + STRIP_TOP - 2,
                "bottom": top + STRIP,
                "middle": middle,
                "mean_x": round(x(strip["mean"]), 1),
                "run_x": [round(x(value), 1) for value in strip["runs"]] if len(strip["runs"]) > 1 else [],
                "dots": [
                    {"x": round(place, 1), "y": round(middle + move, 1), **point}
                    for place, move, point in zip(places, aside, strip["points"], strict=True)
                ],
            }
        )
    bottom = len(strips) * STRIP + 4
    return {
        "width": WIDTH, "height": bottom + 36, "left": 8, "right": WIDTH - 8, "bottom": bottom, "top": 0,
        "x_ticks": [{"at": round(x(value), 1), "text": f"{value:.1f}"} for value in ticks],
        "radius": DOT, "strips": strips,
    }  # fmt: skip


def swarm(places: Sequence[float], *, room: float) -> list[float]:
    """How far to move dots at these places aside where they would meet: to both sides, up to `room`."""
    taken: Counter[int] = Counter()
    aside = []
    for place in places:
        rank = taken[column := int(place // (2 * DOT))]
        taken[column] += 1
        aside.append(math.remainder((rank + 1) // 2 * ROW * (1 if rank % 2 else -1), 2 * room))
    return aside


def dice_floor(columns: Sequence[dict[str, Any]]) -> float:
    """Where the axis of all strips begins: the lowest dot, rounded down to a tenth, at most 0.8."""
    values = [p["dice"] for column in columns for strip in column["strips"] for p in strip["points"]]
    return min(0.8, math.floor(10 * min(values, default=0)) / 10)


def _axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    ticks = [float(f"{tick:.6g}") for tick in MaxNLocator(4).tick_values(low, high)]
    return ticks[0], ticks[-1], ticks


def _log_axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    low, high = min(values) / 1.1, max(values) * 1.1
    for subs in ((1.0, 2.0, 5.0), (1.0,)):
        ticks = [t for t in LogLocator(subs=subs, numticks=99).tick_values(low, high) if low <= t <= high]
        if len(ticks) <= MOST_TICKS:
            break
    return low, high, ticks[:: -(-len(ticks) // MOST_TICKS)]


def _scale(
    low: float, high: float, start: float, end: float, *, by: Callable[[float], float] = float
) -> Callable[[float], float]:
    span = (by(high) - by(low)) or 1.0
    return lambda value: start + (by(value) - by(low)) / span * (end - start)
