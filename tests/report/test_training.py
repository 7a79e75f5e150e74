"""Curves of a log: which entries, which pass, how many points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coopseg.report.sources import read_runs
from coopseg.report.training import (
    MOST_POINTS,
    last_quarter,
    learning_rates,
    loss_curves,
    rises,
    validation_curves,
)
from coopseg.results.scores import Curve

Maker = Callable[..., Path]


def steps(curve: Curve) -> tuple[float, ...]:
    """The steps of a curve."""
    return tuple(point.x for point in curve.points)


def values(curve: Curve) -> tuple[float, ...]:
    """The values of a curve."""
    return tuple(point.mean for point in curve.points)


def test_curves(make_run: Maker) -> None:
    runs = read_runs([make_run("a"), make_run("b", method="standard")])
    losses = loss_curves(runs)
    kinds = list(dict.fromkeys(curve.kind for curve in losses))
    assert kinds == ["total", "segmentation", "reconstruction"]  # what the log has, in a fixed order
    found = [(curve.row, curve.dashed, values(curve)) for curve in losses if curve.kind == "segmentation"]
    assert found == [
        ("cooperative", False, (1.0, 0.5)),
        ("standard", False, (1.0, 0.5)),
        ("cooperative", True, (1.5, 0.75)),
    ]
    for head, expected, best in (("FTN", (0.25, 0.5), 40), ("FTN+STN", (0.4, 0.2), 20)):
        own = [curve for curve in validation_curves(runs) if curve.head == head]
        assert [(steps(curve), values(curve), curve.marked) for curve in own] == [
            ((20, 40), expected, best)
        ] * 2
    assert values(learning_rates(runs)[1]) == (1e-4, 1e-4)


def test_rises(make_run: Maker) -> None:
    found = rises(read_runs([make_run("a"), make_run("b", seed=1), make_run("c", method="standard")]))
    assert list(dict.fromkeys(curve.kind for curve in found)) == [
        "image code, dropout",
        "shape code, channel",
    ]
    assert [curve.run for curve in found[:2]] == ["seed 0", "seed 1"]
    # of 1 and 2, the last quarter holds only the second
    assert last_quarter(found[:2]) == {"cooperative": 2.0}


def test_long_logs_are_averaged(make_run: Maker) -> None:
    run = make_run("a")
    entries = [{"kind": "train", "step": step, "total": float(step)} for step in range(1, 1001)]
    (run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (line,) = loss_curves(read_runs([run]))
    assert len(line.points) <= MOST_POINTS
    assert steps(line)[-1] == 1000
    assert (steps(line)[0], values(line)[0]) == (7, 4.0)  # the mean of the first seven
    weights = [7] * 142 + [6]
    total = sum(w * v for w, v in zip(weights, values(line), strict=True))
    assert total == pytest.approx(sum(range(1, 1001)), rel=1e-4)


def test_no_log(make_run: Maker) -> None:
    runs = read_runs([make_run("a", log=False)])
    assert loss_curves(runs) == validation_curves(runs) == learning_rates(runs) == rises(runs) == []
