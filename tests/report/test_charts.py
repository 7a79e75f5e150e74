"""Geometry of the charts: in the frame, in order, nothing hidden by what lies beside it."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from coopseg.report.charts import DOT, HEIGHT, WIDTH, dice_floor, line_chart, strip_chart, swarm

COLOURS = {"a": 0, "b": 1}


def line(steps: list[int], values: list[float], **more: Any) -> dict[str, Any]:
    return {"method": "b", "run": "seed 0", "steps": steps, "values": values, **more}


def points(chart: dict[str, Any]) -> list[tuple[float, float]]:
    pairs = [pair.split() for pair in re.split("[ML]", chart["lines"][0]["path"])[1:]]
    return [(float(x), float(y)) for x, y in pairs]


@pytest.mark.parametrize(
    "values", [[5.0, 1.0, 0.02], [1.0, 1.1, 0.9], [0.0, 0.5, 0.7], [2.0, 2.0, 2.0], [0, 0, 0]]
)
def test_lines_lie_in_the_frame(values: list[float]) -> None:
    chart = line_chart([line([20, 40, 60], values, best=40)], COLOURS, log=True)
    assert chart["log"] == (values[-1] == 0.02)
    found = points(chart)
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    for x, y in found:
        assert chart["left"] <= x <= chart["right"] <= WIDTH
        assert chart["top"] <= y <= chart["bottom"] <= HEIGHT
    for first, second, above, below in zip(values, values[1:], found, found[1:], strict=False):
        assert (first > second) == (above[1] < below[1])
    (mark,) = chart["lines"][0]["marks"]
    assert (mark["x"], mark["y"]) == found[1]
    assert 2 <= len(chart["y_ticks"]) <= 8
    assert all(chart["top"] - 1 <= tick["at"] <= chart["bottom"] + 1 for tick in chart["y_ticks"])


def test_a_logarithmic_axis_is_one() -> None:
    chart = line_chart([line([1, 2, 3], [0.01, 0.1, 1.0])], COLOURS, log=True)
    (_, low), (_, middle), (_, high) = points(chart)
    assert middle - high == pytest.approx(low - middle, abs=0.11)
    ticks = {float(tick["text"]): tick["at"] for tick in chart["y_ticks"]}
    assert ticks[0.1] == pytest.approx(middle, abs=0.11)


def test_a_level_and_a_single_point() -> None:
    chart = line_chart([line([40], [1.5])], COLOURS, level=1)
    assert chart["level"] > points(chart)[0][1]
    assert len(chart["lines"][0]["marks"]) == 1  # a line of one point cannot be seen


def test_swarm_keeps_equal_dots_apart() -> None:
    aside = swarm([50.0] * 5, room=40)
    assert len(set(aside)) == 5
    assert sorted(abs(move) for move in aside)[0] == 0
    gaps = [b - a for a, b in zip(sorted(aside), sorted(aside)[1:], strict=False)]
    assert min(gaps) >= 1.5 * DOT
    assert max(map(abs, swarm([50.0] * 500, room=10))) <= 10


def test_strips() -> None:
    strip = {
        "method": "a", "head": "FTN", "unit": "volume", "mean": 0.75, "spread": 0.1, "spread_over": "runs",
        "runs": [0.7, 0.8], "points": [{"name": "x", "dice": 0.5}, {"name": "y", "dice": 1.0}],
    }  # fmt: skip
    column = {"name": "D", "strips": [strip, strip | {"method": "b", "runs": [0.75]}]}
    assert dice_floor([column]) == 0.5
    assert dice_floor([]) == 0
    chart = strip_chart(column, COLOURS, low=0.5)
    first, second = chart["strips"]
    assert [dot["x"] for dot in first["dots"]] == [chart["left"], chart["right"]]
    assert first["mean_x"] == pytest.approx((chart["left"] + chart["right"]) / 2)
    assert (len(first["run_x"]), second["run_x"]) == (2, [])  # one run is its own mean
    assert second["top"] >= first["bottom"] - 3
    assert chart["height"] > chart["bottom"] >= second["bottom"]
    for found in (first, second):
        assert all(found["top"] <= dot["y"] - DOT for dot in found["dots"])
    assert math.isclose(float(chart["x_ticks"][-1]["text"]), 1)
