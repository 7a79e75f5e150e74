"""Figures of a benchmark: vector graphics; number, shape and dash tell rows apart, not only colour."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from coopseg.benchmark.columns import DOMAINS, column_of
from coopseg.benchmark.view import compared_with, grid, places
from coopseg.config.methods import title_of

FORMATS = ("svg", "pdf")
# Okabe and Ito's colours in an order in which neighbours also differ in lightness.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))
HEAD_MARKS = {"FTN": "o", "FTN+STN": "D"}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 8.5, "axes.titlesize": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.linewidth": 0.7, "svg.fonttype": "none", "pdf.fonttype": 42,
    "svg.hashsalt": "coopseg",
}  # fmt: skip


FIGURES = ("dice", "change", "cost", "severity")


def draw_figures(results: dict[str, Any]) -> dict[str, Figure]:
    """The figures for which there is anything to show, by name: dice, change, cost, severity.

    results: see `coopseg.benchmark.table.tabulate`. A row has the same number in all of them.
    """
    drawn = dict(zip(FIGURES, (_dice, _change, _cost, _severity), strict=True))
    with rc_context(STYLE):
        figures = {name: draw(results) for name, draw in drawn.items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


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


def _looks(results: dict[str, Any], shown: Collection[str]) -> dict[str, dict[str, Any]]:
    """Number, colour, marker and dash of the rows that a figure shows."""
    numbers = {row["name"]: number for number, row in enumerate(results["rows"], start=1)}
    return {
        name: {
            "number": numbers[name],
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "linestyle": DASHES[place % len(DASHES)],
        }
        for place, name in enumerate(name for name in numbers if name in shown)
    }


def _plain(figure: Figure) -> Figure:
    """A dollar sign in a name is no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


def _dice(results: dict[str, Any]) -> Figure | None:
    table = grid(results, places(results))
    columns = [(place, column["name"]) for place, column in enumerate(results["columns"])]
    rows = [row["name"] for row in results["rows"]]
    values = [cell["mean"] for line in table["rows"] for cell in line["cells"] if cell["state"] == "value"]
    if not values:
        return None
    figure = _new(1.7 + 1.35 * len(columns), 1.1 + 0.27 * len(rows))
    panels = np.ravel(figure.subplots(1, len(columns), sharey=True, squeeze=False))
    for axes, (place, name) in zip(panels, columns, strict=True):
        for line in table["rows"]:
            _strip(axes, line["cells"][place], line["head"], rows.index(line["row"]))
        axes.set_title(name.replace("average ", "average\n"), fontweight="normal")
        axes.grid(axis="x", linewidth=0.4, color="#d0d0d0")
        axes.set_axisbelow(True)
        axes.tick_params(length=2, labelsize=7.5)
    panels[0].set_yticks(range(len(rows)), [title_of(row) for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel("Dice", fontsize=8.5)
    _head_legend(figure, results["heads"])
    return _plain(figure)


def _strip(axes: Axes, cell: dict[str, Any], head: str, height: int) -> None:
    """A dot a draw and a bar at their mean, FTN above and FTN+STN below the row's line."""
    if cell["state"] != "value":
        return
    refined = head != "FTN"
    at = height + (0.17 if refined else -0.17)
    colour, fill = (COLOURS[1], COLOURS[1]) if refined else (COLOURS[2], "white")
    dots = list(cell["draws"].values())
    axes.plot(dots, [at] * len(dots), HEAD_MARKS[head], color=colour, markerfacecolor=fill, markersize=3.6,
              markeredgewidth=0.9, linestyle="none")  # fmt: skip
    if len(dots) > 1:
        axes.plot([cell["mean"]] * 2, [at - 0.16, at + 0.16], color=colour, linewidth=1.3)


def _head_legend(figure: Figure, heads: Sequence[str]) -> None:
    axes = figure.axes[0]
    for head in heads:
        refined = head != "FTN"
        colour = COLOURS[1] if refined else COLOURS[2]
        axes.plot([], [], HEAD_MARKS[head], color=colour, markerfacecolor=colour if refined else "white",
                  markersize=4.5, linestyle="none", label=f"{head}, a dot a draw")  # fmt: skip
    figure.legend(loc="outside lower right", ncols=len(heads), frameon=False, fontsize=8)


def _change(results: dict[str, Any]) -> Figure | None:
    entries = [e for e in results["change"]["steps"] if e["own"] and e["out"]]
    heads = [head for head in results["heads"] if any(entry["head"] == head for entry in entries)]
    baselines = [name for name in compared_with(results) if any(e["against"] == name for e in entries)]
    if not heads:
        return None
    figure = _new(2.4 + 3.4 * len(heads), 0.4 + 3.2 * len(baselines))
    panels = figure.subplots(len(baselines), len(heads), sharex=True, sharey=True, squeeze=False)
    looks = _looks(results, {entry["row"] for entry in entries})
    for (i, against), (j, head) in ((b, h) for b in enumerate(baselines) for h in enumerate(heads)):
        axes = panels[i, j]
        axes.axhline(0, color="#808080", linewidth=0.7)
        axes.axvline(0, color="#808080", linewidth=0.7)
        for entry in entries:
            if (entry["against"], entry["head"]) == (against, head):
                _point(axes, entry["own"], entry["out"], looks[entry["row"]])
        axes.set_title(f"{head}, against {title_of(against)}")
        axes.set_xlabel("change on clean own-site scans, Dice" if i == len(baselines) - 1 else "")
        axes.set_ylabel("" if j else "change out of domain, Dice")
    _row_legend(figure, looks)
    return _plain(figure)


def _point(axes: Axes, x: dict[str, Any], y: dict[str, Any], look: dict[str, Any]) -> None:
    for value, other, along in ((x, y, "x"), (y, x, "y")):
        if value["interval"]:
            ends, at = value["interval"], [other["mean"]] * 2
            line = (ends, at) if along == "x" else (at, ends)
            axes.plot(*line, color=look["color"], linewidth=0.8, alpha=0.55)
    _mark(axes, x["mean"], y["mean"], look)


def _mark(axes: Axes, x: float, y: float, look: dict[str, Any]) -> None:
    axes.plot([x], [y], look["marker"], color=look["color"], markersize=5.5, markeredgecolor="white",
              markeredgewidth=0.5)  # fmt: skip
    axes.annotate(str(look["number"]), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7.5)


def _row_legend(figure: Figure, looks: dict[str, dict[str, Any]], *, lines: bool = False) -> None:
    for name, look in looks.items():
        figure.axes[0].plot([], [], color=look["color"], marker=look["marker"], markersize=5,
                            linestyle=look["linestyle"] if lines else "none",
                            label=f"{look['number']}  {title_of(name)}")  # fmt: skip
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)


def _cost(results: dict[str, Any]) -> Figure | None:
    whole = column_of(results["columns"], DOMAINS)
    table = grid(results, [place for place in places(results) if place["column"] == whole])
    seconds = {entry["row"]: entry["seconds_per_step"] for entry in results["cost"]}
    points = [
        (line, line["cells"][0], seconds[line["row"]])
        for line in table["rows"]
        if line["cells"] and line["cells"][0]["state"] == "value" and seconds.get(line["row"])
    ]
    heads = [head for head in results["heads"] if any(line["head"] == head for line, *_ in points)]
    if not points:
        return None
    figure = _new(1.6 + 3.6 * len(heads), 3.8)
    looks = _looks(results, {line["row"] for line, *_ in points})
    panels = np.ravel(figure.subplots(1, len(heads), sharex=True, sharey=True, squeeze=False))
    for axes, head in zip(panels, heads, strict=True):
        for line, cell, x in points:
            if line["head"] == head:
                if cell["interval"]:
                    axes.plot(
                        [x, x], cell["interval"], color=looks[line["row"]]["color"], linewidth=0.8, alpha=0.55
                    )
                _mark(axes, x, cell["mean"], looks[line["row"]])
        axes.set_title(head)
        axes.set_xlabel("seconds a training step")
        _log_seconds(axes)
    panels[0].set_ylabel(f"Dice, {whole}")
    _row_legend(figure, looks)
    return _plain(figure)


def _log_seconds(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12)


def _severity(results: dict[str, Any]) -> Figure | None:
    curves = results["severity"]
    if not curves:
        return None
    kinds = sorted({curve["kind"] for curve in curves})
    heads = [head for head in results["heads"] if any(curve["head"] == head for curve in curves)]
    figure = _new(1.7 + 2.1 * len(kinds), 0.5 + 2.1 * len(heads))
    looks = _looks(results, {curve["row"] for curve in curves})
    levels = sorted({point["severity"] for curve in curves for point in curve["points"]})
    panels = figure.subplots(len(heads), len(kinds), sharex=True, sharey=True, squeeze=False)
    for (i, head), (j, kind) in ((h, k) for h in enumerate(heads) for k in enumerate(kinds)):
        axes = panels[i, j]
        for curve in curves:
            if (curve["head"], curve["kind"]) == (head, kind):
                look = {key: looks[curve["row"]][key] for key in ("color", "marker", "linestyle")}
                x = [levels.index(point["severity"]) for point in curve["points"]]
                y = [point["mean"] for point in curve["points"]]
                axes.plot(x, y, linewidth=1.2, markersize=3.6, **look)
        axes.set_title(f"{kind}, {head}")
        axes.grid(linewidth=0.4, color="#d8d8d8")
        axes.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
        axes.set_xlabel("severity, evenly spaced" if i == len(heads) - 1 else "")
        axes.set_ylabel("" if j else "Dice")
    _row_legend(figure, looks, lines=True)
    return _plain(figure)
