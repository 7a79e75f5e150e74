"""Curves of a log: which entries, which pass, how many points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coopseg.report.sources import read_runs
from coopseg.report.training import MOST_POINTS, learning_rates, loss_curves, rises, validation_curves

Maker = Callable[..., Path]


def test_curves(make_run: Maker) -> None:
    runs = read_runs([make_run("a"), make_run("b", method="standard")])
    losses = {curve["name"]: curve["lines"] for curve in loss_curves(runs)}
    assert list(losses) == ["total", "segmentation", "reconstruction"]  # what the log has, in a fixed order
    found = [(line["method"], line["dashed"], line["values"]) for line in losses["segmentation"]]
    assert found == [
        ("cooperative", False, (1.0, 0.5)),
        ("standard", False, (1.0, 0.5)),
        ("cooperative", True, (1.5, 0.75)),
    ]
    heads = {curve["name"]: curve["lines"] for curve in validation_curves(runs)}
    for head, values, best in (("FTN", (0.25, 0.5), 40), ("FTN+STN", (0.4, 0.2), 20)):
        assert [(line["steps"], line["values"], line["best"]) for line in heads[head]] == [
            ((20, 40), values, best)
        ] * 2
    assert learning_rates(runs)[1]["values"] == (1e-4, 1e-4)


def test_rises(make_run: Maker) -> None:
    found = rises(read_runs([make_run("a"), make_run("b", seed=1), make_run("c", method="standard")]))
    assert [(curve["code"], curve["scheme"]) for curve in found] == [
        ("image", "dropout"),
        ("shape", "channel"),
    ]
    assert [line["run"] for line in found[0]["lines"]] == ["seed 0", "seed 1"]
    assert found[0]["last"] == {"cooperative": 2.0}  # of 1 and 2, the last quarter holds only the second


def test_long_logs_are_averaged(make_run: Maker) -> None:
    run = make_run("a")
    entries = [{"kind": "train", "step": step, "total": float(step)} for step in range(1, 1001)]
    (run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    ((line,),) = [curve["lines"] for curve in loss_curves(read_runs([run]))]
    assert len(line["steps"]) <= MOST_POINTS
    assert line["steps"][-1] == 1000
    assert (line["steps"][0], line["values"][0]) == (7, 4.0)  # the mean of the first seven
    weights = [7] * 142 + [6]
    total = sum(w * v for w, v in zip(weights, line["values"], strict=True))
    assert total == pytest.approx(sum(range(1, 1001)), rel=1e-4)


def test_no_log(make_run: Maker) -> None:
    runs = read_runs([make_run("a", log=False)])
    assert loss_curves(runs) == validation_curves(runs) == learning_rates(runs) == rises(runs) == []
