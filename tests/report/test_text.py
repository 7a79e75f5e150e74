"""A report in a few lines of text."""

from __future__ import annotations

from typing import Any

from coopseg.report.text import summary

COLUMNS = [
    {"domain": "intra", "title": "home", "datasets": ["home"], "average": False},
    {"domain": "corrupted", "title": "average", "datasets": ["a", "b"], "average": True},
]


def cell(
    mean: float | None, *, best: bool = False, spread: float | None = None, over: str | None = None
) -> dict[str, Any]:
    return {"state": "value", "mean": mean, "spread": spread, "spread_over": over, "best": best}


def test_the_table_marks_the_best_and_shows_only_the_spread_over_runs() -> None:
    plain = cell(0.75, spread=0.1, over="patients")
    best = cell(0.8, best=True, spread=0.0125, over="runs")
    rows = [
        {"method": "standard", "head": "FTN", "cells": [plain, {"state": "n/a"}]},
        {"method": "mine", "head": "FTN+STN", "cells": [best, cell(0.5)]},
    ]
    table = {"digits": 3, "columns": COLUMNS, "rows": rows}
    text = summary({"question": "Which?", "answer": {"verdict": "Mine."}, "tables": [table]})
    assert text.splitlines() == [
        "Which?",
        "Mine.",
        "",
        "method    head     home            corrupted average",
        "standard  FTN      0.750           n/a",
        "mine      FTN+STN  0.800 ± 0.013*  0.500",
    ]


def test_nothing_evaluated_gives_no_table() -> None:
    assert summary({"question": "Which?", "answer": {"verdict": "?"}, "tables": []}) == "Which?\n?"
