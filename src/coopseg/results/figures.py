"""Draws what a study found as vector graphics; number, shape and dash tell rows apart, not only colour."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from coopseg.results.columns import MAIN, column_of
from coopseg.results.differences import Difference
from coopseg.results.scores import Cell, Curve
from coopseg.results.shown import number_text
from coopseg.results.table import Results
from coopseg.results.tables import Place, find_scores, places

FORMATS = ("svg", "pdf")
# Okabe and Ito's colours, in an order in which neighbours also differ in lightness; no structure has one.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))
HEAD_MARKS = {"FTN": "o", "FTN+STN": "D"}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 8.5, "axes.titlesize": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.linewidth": 0.7, "svg.fonttype": "none", "pdf.fonttype": 42,
    "svg.hashsalt": "coopseg",
}  # fmt: skip


LOG_FROM = 8  # highest over lowest value from which an axis of a curve is logarithmic
ROOM = 0.3  # to either side of a strip of dots, in strips


@dataclass(frozen=True)
class Look:
    """How a row is drawn: its number in the table, colour, marker and dash."""

    number: int
    colour: str
    marker: str
    dash: Any


@dataclass(frozen=True)
class Strip:
    """Dice of every case of a row and data set: dots, each a volume or a patient, and the mean of the table.

    trainings: the mean of each.
    """

    row: str
    head: str
    unit: str
    points: tuple[tuple[str, float], ...]
    mean: float
    spread: float | None
    trainings: tuple[float, ...]


def draw_figures(results: Results) -> dict[str, Figure]:
    """Draws the figures for which there is anything to show: dice, change, cost, severity, by name.

    A row has the same number in all of them.
    """
    draw: dict[str, Callable[[Results], Figure | None]] = {
        "dice": _dice, "change": _change, "cost": _cost, "severity": _severity,
    }  # fmt: skip
    with rc_context(STYLE):
        drawn = {name: figure for name, make in draw.items() if (figure := make(results))}
    return {name: _plain(figure) for name, figure in drawn.items()}


def save(figure: Figure, kind: str) -> bytes:
    """The figure as a file of this kind; equal figures give equal bytes."""
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format=kind, metadata=dated[kind])
    return buffer.getvalue()


def _new(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _looks(results: Results, shown: Collection[str]) -> dict[str, Look]:
    """How the rows look that a figure shows."""
    numbers = {row.name: number for number, row in enumerate(results.rows, start=1)}
    return {
        name: Look(
            numbers[name],
            COLOURS[place % len(COLOURS)],
            MARKERS[place % len(MARKERS)],
            DASHES[place % len(DASHES)],
        )
        for place, name in enumerate(name for name in numbers if name in shown)
    }


def _plain(figure: Figure) -> Figure:
    """A dollar sign in a name is no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


def _dice(results: Results) -> Figure | None:
    lines = find_scores(results, places(results))
    rows = [row.name for row in results.rows]
    if not any(cell and cell.has_value for line in lines for cell in line.cells):
        return None
    figure = _new(1.7 + 1.35 * len(results.columns), 1.1 + 0.27 * len(rows))
    panels = np.ravel(figure.subplots(1, len(results.columns), sharey=True, squeeze=False))
    for place, (axes, column) in enumerate(zip(panels, results.columns, strict=True)):
        for line in lines:
            _dots(axes, line.cells[place], line.head, rows.index(line.row))
        axes.set_title(column.name.replace("average ", "average\n"), fontweight="normal")
        axes.grid(axis="x", linewidth=0.4, color="#d0d0d0")
        axes.set_axisbelow(True)
        axes.tick_params(length=2, labelsize=7.5)
    panels[0].set_yticks(range(len(rows)), [row.title for row in results.rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel("Dice", fontsize=8.5)
    for head in results.heads:
        panels[0].plot([], [], HEAD_MARKS[head], **_head_look(head), markersize=4.5, linestyle="none",
                       label=f"{head}, a dot a training")  # fmt: skip
    figure.legend(loc="outside lower right", ncols=len(results.heads), frameon=False, fontsize=8)
    return figure


def _head_look(head: str) -> dict[str, Any]:
    colour, fill = (COLOURS[1], COLOURS[1]) if head != "FTN" else (COLOURS[2], "white")
    return {"color": colour, "markerfacecolor": fill}


def _dots(axes: Axes, cell: Cell | None, head: str, height: int) -> None:
    """A dot a training and a bar at their mean, FTN above and FTN+STN below the row's line."""
    if not cell or not cell.has_value:
        return
    at, look = height + (0.17 if head != "FTN" else -0.17), _head_look(head)
    axes.plot(cell.trainings, [at] * len(cell.trainings), HEAD_MARKS[head], **look, markersize=3.6,
              markeredgewidth=0.9, linestyle="none")  # fmt: skip
    if len(cell.trainings) > 1 and cell.mean is not None:
        axes.plot([cell.mean] * 2, [at - 0.16, at + 0.16], color=look["color"], linewidth=1.3)


def _change(results: Results) -> Figure | None:
    entries = [(line, line.own, line.out) for line in results.change if line.own and line.out]
    heads = [head for head in results.heads if any(line.head == head for line, *_ in entries)]
    baselines = [name for name in results.compared if any(line.against == name for line, *_ in entries)]
    if len({line.row for line, *_ in entries}) < 2:  # one point has no other to be held against
        return None
    figure = _new(2.4 + 3.4 * len(heads), 0.4 + 3.2 * len(baselines))
    panels = figure.subplots(len(baselines), len(heads), sharex=True, sharey=True, squeeze=False)
    looks = _looks(results, {line.row for line, *_ in entries})
    for (i, against), (j, head) in ((b, h) for b in enumerate(baselines) for h in enumerate(heads)):
        axes = panels[i, j]
        axes.axhline(0, color="#808080", linewidth=0.7)
        axes.axvline(0, color="#808080", linewidth=0.7)
        for line, own, out in entries:
            if (line.against, line.head) == (against, head):
                _point(axes, own, out, looks[line.row])
        axes.set_title(f"{head}, against {results.title(against)}")
        axes.set_xlabel("change on clean own-site scans, Dice" if i == len(baselines) - 1 else "")
        axes.set_ylabel("" if j else "change out of domain, Dice")
    _legend(figure, results, looks)
    return figure


def _point(axes: Axes, x: Difference, y: Difference, look: Look) -> None:
    if x.interval:
        axes.plot(x.interval, [y.mean] * 2, color=look.colour, linewidth=0.8, alpha=0.55)
    if y.interval:
        axes.plot([x.mean] * 2, y.interval, color=look.colour, linewidth=0.8, alpha=0.55)
    _mark(axes, x.mean, y.mean, look)


def _mark(axes: Axes, x: float, y: float, look: Look) -> None:
    axes.plot([x], [y], look.marker, color=look.colour, markersize=5.5, markeredgecolor="white",
              markeredgewidth=0.5)  # fmt: skip
    axes.annotate(str(look.number), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7.5)


def _legend(figure: Figure, results: Results, looks: dict[str, Look], *, lines: bool = False) -> None:
    for name, look in looks.items():
        figure.axes[0].plot([], [], color=look.colour, marker=look.marker, markersize=5,
                            linestyle=look.dash if lines else "none",
                            label=f"{look.number}  {results.title(name)}")  # fmt: skip
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)


def _cost(results: Results) -> Figure | None:
    whole = column_of(results.columns, MAIN)
    seconds = {entry.row: entry.seconds_per_step for entry in results.cost}
    points = [
        (line, cell, cell.mean, x)
        for line in find_scores(results, [Place(whole)] if whole else [])
        for cell in line.cells
        if cell and cell.mean is not None and (x := seconds.get(line.row))
    ]
    heads = [head for head in results.heads if any(line.head == head for line, *_ in points)]
    if not points:
        return None
    figure = _new(1.6 + 3.6 * len(heads), 3.8)
    looks = _looks(results, {line.row for line, *_ in points})
    panels = np.ravel(figure.subplots(1, len(heads), sharex=True, sharey=True, squeeze=False))
    for axes, head in zip(panels, heads, strict=True):
        for line, cell, mean, x in points:
            if line.head == head:
                look = looks[line.row]
                if cell.interval:
                    axes.plot([x, x], cell.interval, color=look.colour, linewidth=0.8, alpha=0.55)
                _mark(axes, x, mean, look)
        axes.set_title(head)
        axes.set_xlabel("seconds a training step")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.12)
    panels[0].set_ylabel(f"Dice, {whole}")
    _legend(figure, results, looks)
    return figure


def _severity(results: Results) -> Figure | None:
    curves = results.severity
    if not curves:
        return None
    kinds = sorted({curve.kind for curve in curves})
    heads = [head for head in results.heads if any(curve.head == head for curve in curves)]
    figure = _new(1.7 + 2.1 * len(kinds), 0.5 + 2.1 * len(heads))
    looks = _looks(results, {curve.row for curve in curves})
    levels = sorted({point.x for curve in curves for point in curve.points})
    panels = figure.subplots(len(heads), len(kinds), sharex=True, sharey=True, squeeze=False)
    for (i, head), (j, kind) in ((h, k) for h in enumerate(heads) for k in enumerate(kinds)):
        axes = panels[i, j]
        for curve in curves:
            if (curve.head, curve.kind) == (head, kind):
                look, x = looks[curve.row], [levels.index(point.x) for point in curve.points]
                axes.plot(x, [point.mean for point in curve.points], linewidth=1.2, markersize=3.6,
                          color=look.colour, marker=look.marker, linestyle=look.dash)  # fmt: skip
        axes.set_title(f"{kind}, {head}")
        axes.grid(linewidth=0.4, color="#d8d8d8")
        axes.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
        axes.set_xlabel("severity, evenly spaced" if i == len(heads) - 1 else "")
        axes.set_ylabel("" if j else "Dice")
    _legend(figure, results, looks, lines=True)
    return figure


def draw_curves(
    results: Results, curves: Sequence[Curve], *, log: bool, level: float | None = None
) -> Figure:
    """Draws curves of trainings over their steps, a line a training, in its row's colour.

    log: whether the axis may be logarithmic, which it is where values are positive and span much. level: a
    value with a line of its own.
    """
    with rc_context(STYLE):
        figure = _new(3.6, 2.5)
        axes = figure.subplots()
        looks = _looks(results, {row.name for row in results.rows})
        for curve in curves:
            x, y = zip(*((point.x, point.mean) for point in curve.points), strict=True)
            dots = [place for place, step in enumerate(x) if step == curve.marked or len(x) == 1]
            axes.plot(x, y, "o", linewidth=1.2, linestyle=DASHES[1] if curve.dashed else "solid",
                      color=looks[curve.row].colour, markersize=4.5, markerfacecolor="white",
                      markevery=dots)  # fmt: skip
        if level is not None:
            axes.axhline(level, color="#808080", linewidth=0.8, linestyle=(0, (2, 3)))
        values = [point.mean for curve in curves for point in curve.points]
        if log and 0 < LOG_FROM * min(values) < max(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y", linewidth=0.4, color="#d8d8d8")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlim(left=0)
        axes.set_xlabel("step")
        _row_names(figure, axes, results, list(dict.fromkeys(curve.row for curve in curves)))
    return _plain(figure)


def _row_names(figure: Figure, axes: Axes, results: Results, rows: Sequence[str]) -> None:
    looks = _looks(results, {row.name for row in results.rows})
    for row in rows:
        axes.plot([], [], color=looks[row].colour, label=results.title(row))
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=7.5)


def draw_strips(results: Results, strips: Sequence[Strip], *, low: float) -> Figure:
    """Draws Dice from `low` to 1 of every case, a strip of dots a row: means of trainings and their mean."""
    with rc_context(STYLE):
        figure = _new(3.6, 0.75 + 0.55 * len(strips))
        axes = figure.subplots()
        looks = _looks(results, {row.name for row in results.rows})
        for height, strip in enumerate(strips):
            dice, colour = [value for _, value in strip.points], looks[strip.row].colour
            at = [height + move for move in swarm(dice, low=low)]
            axes.plot(dice, at, "o", color=colour, alpha=0.5, markersize=3, markeredgewidth=0)
            for value in strip.trainings if len(strip.trainings) > 1 else ():
                axes.plot([value] * 2, [height - ROOM, height + ROOM], color=colour, linewidth=1.1)
            axes.plot([strip.mean], [height], "D", color="black", markerfacecolor="white", markersize=5)
            spread = "" if strip.spread is None else f" ± {number_text(strip.spread)}"
            text = f"{results.title(strip.row)}, {strip.head}: {number_text(strip.mean)}{spread}"
            axes.text(low, height - ROOM - 0.04, text, fontsize=7.5)
        axes.set_ylim(len(strips) - 0.5, -0.75)
        axes.set_xlim(low, 1)
        axes.set_yticks([])
        axes.grid(axis="x", linewidth=0.4, color="#d8d8d8")
        axes.set_xlabel("Dice")
    return _plain(figure)


def swarm(values: Sequence[float], *, low: float, bins: int = 60) -> list[float]:
    """Returns how far to move dots aside where they would lie on each other, to both sides, up to ROOM."""
    taken: Counter[int] = Counter()
    aside = []
    for value in values:
        rank = taken[place := int((value - low) / (1 - low) * bins)]
        taken[place] += 1
        step = (rank + 1) // 2 * (1 if rank % 2 else -1) * 0.11
        aside.append(float(np.remainder(step + ROOM, 2 * ROOM) - ROOM))
    return aside
