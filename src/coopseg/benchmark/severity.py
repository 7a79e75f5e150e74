"""Dice against the severity of each corruption, for the rows for which it was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from coopseg.benchmark.collected import METRICS, STEPS, Collected, Ended, read_scores
from coopseg.benchmark.grid import SEVERITIES
from coopseg.results.patients import MEAN, mean_over
from coopseg.results.statistics import bootstrap_interval

NOUGHT, PUBLISHED = 0.0, 1.0  # PUBLISHED is what the main evaluation measures

Curve = dict[str, Any]


def severity_curves(collected: Collected, *, clean: str) -> list[Curve]:
    """A curve a row, kind of corruption and head: points of severity, mean Dice, 95 % interval and n.

    Severity 1 is the main evaluation. Severity 0 is what was measured on copies without artefact where it was
    asked for ("measured_nought" says so), else the data set `clean`, whose scans are neither cropped nor
    rescaled. All points of a curve are over the same jobs: severities that only some of a row's jobs have
    are left out.
    """
    return [curve for row in collected.rows for curve in _curves(collected, row, clean)]


def _curves(collected: Collected, row: str, clean: str) -> Iterator[Curve]:
    finished = [ended for ended in collected.jobs_of(row, STEPS) if ended.state == "finished"]
    jobs = [(ended, files) for ended in finished if (files := _measured(ended))]
    if not jobs or not (shared := set.intersection(*(set(files) for _, files in jobs))):
        return
    parts = [
        frame.assign(draw=ended.job.draw, seed=ended.job.seed)
        for ended, files in jobs
        for frame in _frames(collected, ended, {level: files[level] for level in sorted(shared)}, clean)
    ]
    draws, measured = sorted({ended.job.draw for ended, _ in jobs}), NOUGHT in shared
    for (kind, head), own in _patients(pd.concat(parts)).groupby(["dataset", "head"], sort=True):
        points = [_point(severity, at) for severity, at in own.groupby("severity", sort=True)]
        yield {"row": row, "kind": kind, "head": head, "draws": draws, "measured_nought": measured,
               "points": points}  # fmt: skip


def _measured(ended: Ended) -> dict[float, Path]:
    return {float(file.parent.name): file for file in ended.folder.glob(f"{SEVERITIES}/*/{METRICS}")}


def _frames(
    collected: Collected, ended: Ended, files: dict[float, Path], clean: str
) -> Iterator[pd.DataFrame]:
    """Scores of a job at each severity, each with the kind of corruption as its data set."""
    job, scores = ended.job, collected.by_job
    for name in ("row", "budget", "draw", "seed"):
        scores = scores[scores[name] == getattr(job, name)].drop(columns=name)
    measured = [read_scores(file).assign(severity=level) for level, file in files.items()]
    kinds = sorted(set(measured[0]["dataset"]))
    yield from measured
    yield scores[scores["dataset"].isin(kinds)].assign(severity=PUBLISHED)
    if NOUGHT not in files:
        for kind in kinds:
            yield scores[scores["dataset"] == clean].assign(dataset=kind, severity=NOUGHT)


def _patients(scores: pd.DataFrame) -> pd.DataFrame:
    """A line a patient, kind, head and severity."""
    chosen = scores[(scores["group"] == "all") & (scores["class"] == MEAN)]
    return mean_over(mean_over(chosen, "seed"), "draw")


def _point(severity: Any, at: pd.DataFrame) -> dict[str, Any]:
    values = at[["dice"]].to_numpy(float)
    mean, interval = float(values.mean()), bootstrap_interval([values])
    return {"severity": float(severity), "mean": mean, "interval": interval, "n": len(at)}
