"""Figures as files: vector, the same every time, with every row named; and without a trace elsewhere."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from made_up_bench import Bench

from coopseg.benchmark.collect import read_results
from coopseg.results.figures import ROOM, Strip, draw_curves, draw_figures, draw_strips, save, swarm
from coopseg.results.scores import Curve, Point
from coopseg.results.table import Results
from coopseg.results.tables import find_scores, places

SEPARATE, JOINT = "standard (separate STN)", "standard (published: joint STN)"
SVG = "{http://www.w3.org/2000/svg}"


def lines_of(axes: Any) -> list[Any]:
    """The lines of a plot, whose data matplotlib's types leave open."""
    return list(axes.lines)


@pytest.fixture(scope="module")
def drawn(results: Results) -> dict[str, Any]:
    """The figures of the large benchmark."""
    return draw_figures(results)


def texts(svg: bytes) -> list[str]:
    return ["".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_vector_files_without_date_or_chance(results: Results, drawn: dict[str, Any]) -> None:
    assert list(drawn) == ["dice", "change", "cost", "severity"]
    again = draw_figures(results)
    for name, figure in drawn.items():
        svg = save(figure, "svg")
        assert save(again[name], "svg") == svg
        assert not list(ElementTree.fromstring(svg).iter(f"{SVG}image"))
        assert not re.search(rb"<dc:date>|20\d\d-\d\d-\d\d", svg)
    pdf = save(drawn["severity"], "pdf")
    assert save(again["severity"], "pdf") == pdf
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf


def test_every_row_with_a_number_is_named(drawn: dict[str, Any]) -> None:
    assert {JOINT, SEPARATE, "randconv", "post-dae", "cooperative", "nnU-Net"} <= set(
        texts(save(drawn["dice"], "svg"))
    )
    change = texts(save(drawn["change"], "svg"))
    assert {"3  randconv", "4  post-dae", "8  cooperative", f"1  {SEPARATE}"} <= set(change)
    assert change.count("8") == 4  # one point a head and baseline
    assert change.count("9") == 0  # a predictor is not tested on the published copies
    assert change.count("1") == 2  # in the panels against the other baseline
    assert {f"{head}, against {title}" for head in ("FTN", "FTN+STN") for title in (JOINT, SEPARATE)} <= set(
        change
    )
    severity = texts(save(drawn["severity"], "svg"))
    assert {"RandGhost, FTN+STN", SEPARATE} <= {text.split("  ")[-1] for text in severity}


def test_few_small_severities_are_told_apart(bench: Bench) -> None:
    bench.finish("standard", severities=[0, 0.05, 0.1, 0.25])
    axes = draw_figures(read_results(bench.folder))["severity"].axes[-1]
    (line,) = [line for line in lines_of(axes) if len(line.get_xdata())]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "0.05", "0.1", "0.25", "1"]
    assert list(axes.get_xticks()) == list(line.get_xdata()) == [0, 1, 2, 3, 4]


def test_a_dot_a_draw(results: Results, drawn: dict[str, Any]) -> None:
    cells = [line.cells[0] for line in find_scores(results, places(results))]
    expected = sorted(value for cell in cells if cell for value in cell.draws.values())
    axes = drawn["dice"].axes[0]
    dots = [x for line in lines_of(axes) if line.get_linestyle() == "None" for x in line.get_xdata()]
    assert sorted(dots) == pytest.approx(expected)


def test_points_of_change(results: Results, drawn: dict[str, Any]) -> None:
    own = [line for line in results.change if (line.head, line.against) == ("FTN", results.baselines[0])]
    entries = [line for line in own if line.row != "nnU-Net"]  # which has no published copies
    marks = {text.get_text(): text.xy for text in drawn["change"].axes[0].texts}
    numbers = {row.name: str(place) for place, row in enumerate(results.rows, start=1)}
    assert len(marks) == len(entries) == len(own) - 1 == 5
    for entry in entries:
        assert entry.own
        assert entry.out
        assert marks[numbers[entry.row]] == (entry.own.mean, entry.out.mean)


def test_only_what_can_be_drawn(bench: Bench) -> None:
    assert draw_figures(read_results(bench.folder)) == {}
    bench.finish("standard")
    assert list(draw_figures(read_results(bench.folder))) == ["dice"]
    bench.probe("standard", 0.5)
    assert list(draw_figures(read_results(bench.folder))) == ["dice", "cost"]


def test_any_name_and_no_trace(bench: Bench) -> None:
    bench.datasets = {"$x_&<": "intra", "R$": "corrupted"}
    for row in ("standard", "$a^b"):
        bench.finish(row)
    assert "change" not in draw_figures(read_results(bench.folder))  # one point says nothing
    bench.finish("dsu")
    before = dict(mpl.rcParams)
    figures = draw_figures(read_results(bench.folder))
    assert "$x_&<" in texts(save(figures["dice"], "svg"))
    assert "3  $a^b" in texts(save(figures["change"], "svg"))
    save(figures["dice"], "pdf")
    assert dict(mpl.rcParams) == before


def curve(values: list[float], *, marked: float | None = None) -> Curve:
    """A curve of standard training over steps of 20."""
    points = tuple(Point(20 * (place + 1), value) for place, value in enumerate(values))
    return Curve("standard", "total", "", points, "seed 0", marked=marked)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([5.0, 1.0, 0.02], "log"),
        ([1.0, 1.1, 0.9], "linear"),
        ([0.0, 0.5, 0.7], "linear"),
        ([0, 0, 0], "linear"),
    ],
)
def test_curves(results: Results, values: list[float], scale: str) -> None:
    (axes,) = draw_curves(results, [curve(values, marked=40)], log=True, level=1).axes
    assert axes.get_yscale() == scale
    line, level = lines_of(axes)[:2]
    assert list(line.get_xdata()) == [20, 40, 60]
    assert list(line.get_ydata()) == values
    assert line.get_markevery() == [1]  # the best step alone
    assert set(level.get_ydata()) == {1}
    (alone,) = draw_curves(results, [curve([1.5])], log=False).axes
    assert alone.lines[0].get_markevery() == [0]  # a line of one point cannot be seen


def test_strips(results: Results) -> None:
    points = (("x", 0.5), ("y", 1.0))
    strip = Strip("standard", "FTN", "volume", points, 0.75, 0.1, (0.7, 0.8))
    other = Strip("cooperative", "FTN", "volume", points, 0.75, None, (0.75,))
    (axes,) = draw_strips(results, [strip, other], low=0.5).axes
    assert axes.get_xlim() == (0.5, 1)
    assert sorted(lines_of(axes)[0].get_xdata()) == [0.5, 1.0]
    upright = [
        line.get_xdata()[0]
        for line in lines_of(axes)
        if len(set(line.get_xdata())) == 1 < len(line.get_xdata())
    ]
    assert upright == [0.7, 0.8]  # one training is its own mean
    assert [text.get_text() for text in axes.texts] == [
        f"{SEPARATE}, FTN: 0.750 ± 0.100", "cooperative, FTN: 0.750"
    ]  # fmt: skip


def test_swarm_keeps_equal_dots_apart() -> None:
    aside = swarm([0.8] * 5, low=0.5)
    assert len({round(move, 9) for move in aside}) == 5
    assert aside[0] == pytest.approx(0)
    assert max(map(abs, swarm([0.8] * 500, low=0.5))) <= ROOM + 1e-9
