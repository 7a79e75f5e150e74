"""Cells of the table: what the finished jobs of a row reached in a column, or why there is nothing."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from coopseg.benchmark.collected import STEPS, Collected, Ended
from coopseg.benchmark.columns import Column, cohorts
from coopseg.inference.predictor import HEADS
from coopseg.results.paired import Wide, spread_out
from coopseg.results.patients import BELOW, FAILURES, MEASURES, mean_over
from coopseg.results.statistics import bootstrap_interval, number, spread

SITES = ("vendor", "site")  # groups of data sets that name them
OF = ["head", "class", "group", "value"]
TRAINED = ["draw", "seed"]

Cell = dict[str, Any]


def scores_of(collected: Collected, row: str, budget: str) -> pd.DataFrame:
    """The scores of a row's finished jobs under a budget; see `Collected.scores` and `jobs_of`."""
    scores = collected.scores
    used = {entry.job.budget for entry in collected.jobs_of(row, budget)}
    return scores[(scores["row"] == row) & scores["budget"].isin(used)] if len(scores) else scores


def cells(collected: Collected, columns: Sequence[Column], budget: str) -> Iterator[Cell]:
    """Every cell of a budget: row, head, column, class, group and value name it, `state` says what it is.

    "value": mean, interval (95 %, over patients, where the group is "all"), sd_draws (of the draws' means;
    None for one), sd_patients (None for one, and for an average over several cohorts), n, draws with their
    means, failures, hd95, assd and distance_missing. "n/a": the row has no such head. "failed": all jobs
    failed. "waiting": none has finished yet. jobs: how many have finished of how many.
    """
    for row in collected.rows:
        jobs = collected.jobs_of(row, budget)
        if budget != STEPS and not jobs:
            continue
        scores = scores_of(collected, row, budget)
        for head in HEADS:
            name = {"budget": budget, "row": row, "head": head}
            if head not in collected.heads(row):
                yield from ({**name, **at, "state": "n/a"} for at in _places(columns))
            elif not (found := job_counts(jobs))["finished"]:
                state = "failed" if found["failed"] == len(jobs) else "waiting"
                yield from ({**name, **at, "state": state, "jobs": found} for at in _places(columns))
            else:
                own = scores[scores["head"] == head]
                yield from ({**name, **cell, "jobs": found} for cell in _values(own, columns))


def job_counts(jobs: Sequence[Ended]) -> dict[str, int]:
    """How many jobs have finished, failed, and are there in all."""
    states = [job.state for job in jobs]
    return {"finished": states.count("finished"), "failed": states.count("failed"), "all": len(jobs)}


def _places(columns: Sequence[Column]) -> Iterator[Cell]:
    return ({"column": column["name"], "class": "mean", "group": "all", "value": ""} for column in columns)


def _values(scores: pd.DataFrame, columns: Sequence[Column]) -> Iterator[Cell]:
    """scores: of one row and head."""
    patients, draws = mean_over(scores, "draw"), mean_over(scores, "patient")
    means = dict(list(mean_over(patients, "patient").groupby(OF, sort=False)))
    by_draw = dict(list(draws.groupby(OF, sort=False)))
    for key, own in patients.groupby(OF, sort=False):
        at = dict(zip(OF, key, strict=True))
        wide, drawn = spread_out(own, "patient"), spread_out(by_draw[key], "draw")
        measured = {line["dataset"]: line for line in means[key].to_dict("records")}
        for column in columns:
            if set(column["datasets"]) <= measured.keys() and not (
                column["average"] and at["group"] in SITES
            ):
                parts = cohorts(wide, column, columns)
                interval = bootstrap_interval(parts) if at["group"] == "all" else None
                found = {"column": column["name"], **at, "state": "value", "interval": interval}
                yield found | _value(parts, drawn, [measured[name] for name in column["datasets"]], column)


def _value(
    parts: Sequence[np.ndarray], drawn: Wide, measured: Sequence[dict[Hashable, Any]], column: Column
) -> Cell:
    """parts: see `cohorts`. measured: the means over patients of every data set of the column."""
    by_draw = drawn.of(column["datasets"]).mean(axis=1)
    draws = {str(draw): float(value) for draw, value in zip(drawn.rows, by_draw, strict=True)
             if np.isfinite(value)}  # fmt: skip
    over = {key: number(fmean(entry[key] for entry in measured)) for key in MEASURES}
    own = parts[0].mean(axis=1)  # of a patient, over the data sets of an average
    return {
        "mean": over["dice"],
        "sd_draws": spread([*draws.values()]),
        "sd_patients": spread(own[np.isfinite(own)]) if len(parts) == 1 else None,
        "n": sum(map(len, parts)),
        "draws": draws,
        "failures": {str(limit): over[name] for limit, name in zip(FAILURES, BELOW, strict=True)},
        **{key: over[key] for key in ("hd95", "assd", "distance_missing")},
    }


def shared_scores(
    collected: Collected, row: str, budget: str, *, against: str
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Scores of a row and of a baseline, training by training, for those draws and seeds that both have.

    With several draws a training is a draw, whose seeds are averaged; with one it is a seed. A predictor has
    no draw: it is held against every training of the baseline.
    """
    ours, theirs = (_by_job(collected, name, budget) for name in (row, against))
    if not len(ours) or not len(theirs):
        return
    predictor = any(job.is_predictor for job in collected.jobs_of(row, budget))
    if not predictor:
        both = ours[TRAINED].drop_duplicates().merge(theirs[TRAINED].drop_duplicates())
        ours, theirs = ours.merge(both), theirs.merge(both)
    unit, averaged = TRAINED if theirs["draw"].nunique() > 1 else TRAINED[::-1]
    theirs = mean_over(theirs, averaged)
    ours = mean_over(mean_over(ours, "seed"), "draw") if predictor else mean_over(ours, averaged)
    for name, baseline in theirs.groupby(unit, sort=True):
        own = ours if predictor else ours[ours[unit] == name].drop(columns=unit)
        yield own, baseline.drop(columns=unit)


def _by_job(collected: Collected, row: str, budget: str) -> pd.DataFrame:
    scores = collected.by_job
    used = {entry.job.budget for entry in collected.jobs_of(row, budget)}
    if not len(scores):
        return scores
    chosen = (scores["row"] == row) & scores["budget"].isin(used) & (scores["group"] == "all")
    return scores[chosen].drop(columns=["row", "budget", "group", "value"])
