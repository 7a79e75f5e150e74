"""Dice against the severity of each corruption, for the rows for which it was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from coopseg.benchmark.collected import METRICS, STEPS, Collected, read_scores
from coopseg.benchmark.grid import SEVERITIES
from coopseg.benchmark.statistics import bootstrap_interval, mean_over
from coopseg.evaluation.tables import MEAN

CLEAN, PUBLISHED = 0.0, 1.0  # severities that the main evaluation measures: its clean set, its corrupted ones

Curve = dict[str, Any]


def severity_curves(collected: Collected, *, clean: str) -> list[Curve]:
    """A curve a row, kind of corruption and head: points of severity, mean Dice, 95 % interval and n.

    clean: the data set without corruption, which is severity 0; severity 1 is the main evaluation. All points
    of a curve are over the same jobs: those that have severities.
    """
    parts = []
    for ended in collected.finished:
        job, folders = ended.job, sorted(ended.folder.glob(f"{SEVERITIES}/*/{METRICS}"))
        if folders and job.budget == STEPS:
            found = collected.by_job
            own = found[(found["row"] == job.row) & (found["budget"] == job.budget)]
            own = own[(own["draw"] == job.draw) & (own["seed"] == job.seed)]
            measured = [read_scores(file).assign(severity=_severity(file)) for file in folders]
            kinds = set(measured[0]["dataset"])
            main = [own[own["dataset"] == clean].assign(dataset=kind, severity=CLEAN) for kind in kinds]
            main.append(own[own["dataset"].isin(kinds)].assign(severity=PUBLISHED))
            for frame in (*main, *measured):
                parts.append(frame.assign(row=job.row, draw=job.draw, seed=job.seed, budget=job.budget))
    return list(_curves(pd.concat(parts), collected.rows)) if parts else []


def _severity(metrics: Path) -> float:
    return float(metrics.parent.name)


def _curves(scores: pd.DataFrame, rows: tuple[str, ...]) -> Iterator[Curve]:
    chosen = scores[(scores["group"] == "all") & (scores["class"] == MEAN)]
    patients = mean_over(mean_over(chosen, "seed"), "draw")
    grouped = dict(list(patients.groupby(["row", "dataset", "head"], sort=True)))
    for row, kind, head in sorted(grouped, key=lambda key: (rows.index(key[0]), *key[1:])):
        own = grouped[row, kind, head]
        draws = scores.loc[scores["row"] == row, "draw"].unique()
        points = [
            {
                "severity": severity,
                "mean": float(at["dice"].mean()),
                "interval": bootstrap_interval([at[["dice"]].to_numpy(float)]),
                "n": len(at),
            }
            for severity, at in own.groupby("severity", sort=True)
        ]
        yield {"row": row, "kind": kind, "head": head, "draws": sorted(draws), "points": points}
