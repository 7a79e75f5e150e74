"""A benchmark folder as one plain dictionary: every cell, difference, cost, curve and error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coopseg import __version__
from coopseg.benchmark.cells import cells
from coopseg.benchmark.collected import STEPS, TIME, Collected, Ended, collect
from coopseg.benchmark.columns import find_columns
from coopseg.benchmark.cost import costs
from coopseg.benchmark.differences import change, differences
from coopseg.benchmark.grid import BASELINES, TIMEKEEPER
from coopseg.benchmark.severity import severity_curves
from coopseg.config.methods import DESCRIPTIONS, POST_DAE, split_row
from coopseg.inference.predictor import HEADS
from coopseg.results.patients import MEAN
from coopseg.results.statistics import LEVEL, RESAMPLES

NOTES = {POST_DAE: "its second head is the FTN followed by the denoising autoencoder, not by an STN"}
STATISTICS = {
    "unit": "patient",
    "interval": f"percentile bootstrap over patients and, where there are several, over trainings, "
    f"{LEVEL:.0%}, {RESAMPLES} resamples",
    "test": "sign-flip, two-sided, over patients",
    "correction": "Holm, over the rows compared with one baseline within one column, head and class",
}


def read_table(bench: Path) -> dict[str, Any]:
    """What table/results.json holds, in JSON types without NaN; see `tabulate`."""
    return tabulate(collect(bench))


def tabulate(collected: Collected) -> dict[str, Any]:
    """Returns what the table, the figures and the page show.

    request: benchmark.json. rows, columns, classes, heads: in the order of the table. cells: see `cells`.
    differences: see `differences`. change: by budget, see `change`. baselines: the rows that others are held
    against, the published one first. cost, severity: see there. budgets: "steps", and "time" where any row
    was trained for equal wall-clock. jobs: how many ended how, and those that failed or wait.
    """
    columns = find_columns(collected)
    timed = any(entry.job.budget == TIME for entry in collected.jobs)
    budgets = [STEPS, TIME] if timed else [STEPS]
    compared = {budget: differences(collected, columns, budget) for budget in budgets}
    clean = next((column["name"] for column in columns if column["domain"] == "intra"), "")
    return {
        "coopseg": __version__,
        "request": collected.request.model_dump(mode="json"),
        "baselines": list(BASELINES),
        "timekeeper": TIMEKEEPER,
        "statistics": STATISTICS,
        "rows": [describe_row(collected, row) for row in collected.rows],
        "heads": list(HEADS),
        "columns": columns,
        "classes": _classes(collected),
        "budgets": budgets,
        "cells": [cell for budget in budgets for cell in cells(collected, columns, budget)],
        "differences": [entry for budget in budgets for entry in compared[budget]],
        "change": {budget: change(compared[budget], columns) for budget in budgets},
        "cost": costs(collected),
        "severity": severity_curves(collected, clean=clean),
        "jobs": _jobs(collected.jobs),
    }


def describe_row(collected: Collected, row: str) -> dict[str, Any]:
    """Name, what it is, its heads, and the draws and seeds of its finished jobs at equal steps."""
    jobs = [entry.job for entry in collected.jobs_of(row, STEPS) if entry.state == "finished"]
    predictor = any(entry.is_predictor for entry in collected.jobs_of(row, STEPS))
    base, k = split_row(row)
    described = DESCRIPTIONS.get(base, "a predictor trained elsewhere" if predictor else "")
    return {
        "name": row,
        "description": f"the networks of {base} predicted with scan statistics {k}" if k else described,
        "note": NOTES.get(base, ""),
        "predictor": predictor,
        "heads": list(collected.heads(row)),
        "draws": sorted({job.draw for job in jobs if not predictor}),
        "seeds": sorted({job.seed for job in jobs if not predictor}),
    }


def _classes(collected: Collected) -> list[str]:
    scores = collected.scores
    found = list(dict.fromkeys(scores["class"])) if len(scores) else []
    return sorted(found, key=lambda name: name != MEAN)


def _jobs(jobs: Sequence[Ended]) -> dict[str, Any]:
    failed = [job for job in jobs if job.state == "failed"]
    waiting = [job for job in jobs if job.state == "waiting"]
    return {
        "all": len(jobs),
        "finished": len(jobs) - len(failed) - len(waiting),
        "failed": [_describe(job) | _error(job) for job in failed],
        "waiting": [_describe(job) for job in waiting],
    }


def _describe(ended: Ended) -> dict[str, Any]:
    return {key: getattr(ended.job, key) for key in ("id", "row", "draw", "seed", "budget")}


def _error(ended: Ended) -> dict[str, Any]:
    return {key: ended.outcome.get(key, "") for key in ("error", "kind", "log", "when")}
