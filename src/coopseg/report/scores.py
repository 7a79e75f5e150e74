"""Scores of every method, head and data set: means over runs, averages over groups, the best of a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from coopseg.inference.predictor import HEADS
from coopseg.report.sources import Run

DOMAINS = ("intra", "corrupted", "other")
DIGITS = {"dice": 3, "hd95": 1, "assd": 2}
MEAN = "mean"  # the foreground mean among the classes

Cell = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """Runs of one name."""

    name: str
    runs: tuple[Run, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads it was trained with, in the order of `HEADS`."""
        refined = any(run.record["settings"]["losses"]["stn"] for run in self.runs)
        return HEADS if refined else HEADS[:1]

    @property
    def head(self) -> str:
        """The head that speaks for the method: the last of those that were evaluated."""
        found = {summary["head"] for run in self.runs for summary in run.summaries}
        return next((head for head in reversed(self.heads) if head in found), self.heads[-1])


def find_methods(runs: Sequence[Run]) -> list[Method]:
    """Runs by name, in the order given."""
    names = dict.fromkeys(run.method for run in runs)
    return [Method(name, tuple(run for run in runs if run.method == name)) for name in names]


def find_columns(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The data sets: name, domain, number of patients, and whether all runs saw the same patients."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for name, entry in run.datasets.items():
            found.setdefault(name, []).append(entry)
    columns = [
        {
            "name": name,
            "domain": entries[0]["domain"],
            "patients": len(entries[0]["patients"]),
            "volumes": entries[0]["volumes"],
            "same_patients": all(set(entry["patients"]) == set(entries[0]["patients"]) for entry in entries),
        }
        for name, entries in found.items()
    ]
    return sorted(columns, key=lambda column: DOMAINS.index(column["domain"]))


def run_score(run: Run, dataset: str, head: str, *, of: str = MEAN, key: str = "dice_mean") -> float | None:
    """One number of a run's summaries over all volumes of a data set; None where it has none."""
    summary = find_summary(run, dataset, head, of)
    return None if summary is None else summary[key]


def find_summary(run: Run, dataset: str, head: str, of: str) -> dict[str, Any] | None:
    """The summary over all volumes of a data set, for one head and class."""
    wanted = {"dataset": dataset, "head": head, "class": of, "group": "all"}
    return next((s for s in run.summaries if all(s[k] == v for k, v in wanted.items())), None)


def run_average(run: Run, datasets: Sequence[str], head: str, **what: str) -> float | None:
    """Mean over data sets of their scores; None unless all of them have one."""
    scores = [run_score(run, dataset, head, **what) for dataset in datasets]
    known = [score for score in scores if score is not None]
    return fmean(known) if known and len(known) == len(scores) else None


def score_cell(method: Method, dataset: str, head: str, *, of: str, measure: str) -> Cell:
    """A cell of the table: mean over the runs that have it; ± over runs, of one run over its patients."""
    summaries = [find_summary(run, dataset, head, of) for run in method.runs]
    known = [entry for entry in summaries if entry and entry[f"{measure}_mean"] is not None]
    if not known:
        return _empty(method, head, "not measured" if any(summaries) else "not evaluated")
    cell = _pool([entry[f"{measure}_mean"] for entry in known])
    if len(known) == 1:
        cell |= {"spread": known[0][f"{measure}_sd"], "spread_over": "patients"}
    cell["patients"] = known[0]["patients"]
    cell["missing"] = fmean(entry["distance_missing"] for entry in known)
    if measure == "dice":
        cell["failures"] = fmean(entry["dice_below_0.5"] for entry in known)
    return cell


def average_cell(method: Method, datasets: Sequence[str], head: str, *, of: str, measure: str) -> Cell:
    """A cell of an average over data sets, first within each run, then over runs."""
    averages = [run_average(run, datasets, head, of=of, key=f"{measure}_mean") for run in method.runs]
    missing = [run_average(run, datasets, head, of=of, key="distance_missing") for run in method.runs]
    known = [average for average in averages if average is not None]
    if not known:
        some = any(run_score(run, d, head, of=of) is not None for run in method.runs for d in datasets)
        return _empty(method, head, "incomplete" if some else "not evaluated")
    return _pool(known) | {"missing": fmean(share for share in missing if share is not None)}


def _pool(values: list[float]) -> Cell:
    spread = stdev(values) if len(values) > 1 else None
    over = "runs" if len(values) > 1 else None
    return {"state": "value", "mean": fmean(values), "spread": spread, "spread_over": over, "runs": values}


def _empty(method: Method, head: str, state: str) -> Cell:
    return {"state": state if head in method.heads else "n/a"}


def mark_best(rows: Sequence[dict[str, Any]], *, measure: str) -> None:
    """Mark in each column the cells with the best mean, compared as shown, where two or more have one."""
    pick = max if measure == "dice" else min
    for cells in zip(*(row["cells"] for row in rows), strict=True):
        known = [cell for cell in cells if cell["state"] == "value"]
        shown = [round(cell["mean"], DIGITS[measure]) for cell in known]
        fewest = min((cell["missing"] for cell in known), default=0)
        for cell, value in zip(known, shown, strict=True):
            # a distance that could not be measured is no good one: who misses more does not win
            fair = measure == "dice" or cell["missing"] <= fewest + 1e-9
            cell["best"] = len(known) > 1 and fair and value == pick(shown)


def score_table(methods: Sequence[Method], columns: Sequence[Cell], *, of: str, measure: str) -> Cell:
    """Rows of method and head, columns of data sets, each group of two or more followed by its average."""
    titles = _titles(columns)
    rows = []
    for method in methods:
        for head in HEADS:
            cells = [
                average_cell(method, title["datasets"], head, of=of, measure=measure)
                if title["average"]
                else score_cell(method, title["title"], head, of=of, measure=measure)
                for title in titles
            ]
            rows.append({"method": method.name, "runs": len(method.runs), "head": head, "cells": cells})
    mark_best(rows, measure=measure)
    return {"class": of, "measure": measure, "digits": DIGITS[measure], "columns": titles, "rows": rows}


def _titles(columns: Sequence[Cell]) -> list[Cell]:
    titles = []
    for domain in DOMAINS:
        names = [column["name"] for column in columns if column["domain"] == domain]
        titles += [{"domain": domain, "title": name, "datasets": [name], "average": False} for name in names]
        if domain != "intra" and len(names) > 1:
            titles.append({"domain": domain, "title": "average", "datasets": names, "average": True})
    return titles
