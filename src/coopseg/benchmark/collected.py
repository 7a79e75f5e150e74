"""What a benchmark folder holds: the request, the jobs and how they ended, and the scores of the finished."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from coopseg.benchmark.grid import ERROR, EVALUATION, RESULT, TIMEKEEPER, TRAINING, Job, make_jobs
from coopseg.benchmark.probe import read_probe
from coopseg.benchmark.request import Request, read_request, settings_of
from coopseg.cases.splits import RUN
from coopseg.config.methods import METHODS, POST_DAE, ROWS, split_row
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import RECORD
from coopseg.inference.predictor import HEADS
from coopseg.results.patients import mean_over, per_patient
from coopseg.text import read_json

METRICS = "metrics.json"
STEPS, TIME = "steps", "time"  # what the rows of a set have had in equal measure


@dataclass(frozen=True)
class Ended:
    """A job and what has become of it. state: "finished", "failed" or "waiting".

    outcome: result.json or error.json, empty where it waits. run, evaluation: run.json and evaluation.json
    where they are there.
    """

    job: Job
    folder: Path
    state: str
    outcome: dict[str, Any]
    run: dict[str, Any]
    evaluation: dict[str, Any]

    @property
    def is_predictor(self) -> bool:
        """Whether it was trained elsewhere, so that draws and seeds mean nothing."""
        return self.job.kind == "predictor"


@dataclass(frozen=True)
class Collected:
    """A benchmark folder, read."""

    folder: Path
    request: Request
    jobs: tuple[Ended, ...]
    probes: dict[str, dict[str, Any]]

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """The rows in the order of the published table; then others as asked for; predictors last."""
        predictors = {entry.job.row for entry in self.jobs if entry.is_predictor}
        names = dict.fromkeys(entry.job.row for entry in self.jobs)
        order = {name: place for place, name in enumerate(dict.fromkeys((*ROWS, *METHODS)))}

        def place(name: str) -> tuple[bool, int, bool]:
            base, k = split_row(name)
            return name in predictors, order.get(base, len(order)), bool(k)

        return tuple(sorted(names, key=place))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores of finished jobs: a line a row, budget, draw, dataset, head, class, group and patient.

        Copies, phases and seeds are averaged. Empty where no job has finished.
        """
        return mean_over(self.by_job, "seed") if len(self.by_job) else self.by_job

    @cached_property
    def by_job(self) -> pd.DataFrame:
        """As `scores`, with a line a seed."""
        parts = [
            read_scores(entry.folder / EVALUATION / METRICS).assign(
                row=entry.job.row, budget=entry.job.budget, draw=entry.job.draw, seed=entry.job.seed
            )
            for entry in self.finished
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    @cached_property
    def finished(self) -> tuple[Ended, ...]:
        """The jobs with scores."""
        return tuple(entry for entry in self.jobs if entry.state == "finished")

    def jobs_of(self, row: str, budget: str) -> list[Ended]:
        """The jobs of a row; at equal time those of the timekeeper are the ones by steps.

        How long these take is what the others get.
        """
        if row == TIMEKEEPER and budget == TIME and any(entry.job.budget == TIME for entry in self.jobs):
            budget = STEPS
        return [entry for entry in self.jobs if (entry.job.row, entry.job.budget) == (row, budget)]

    def heads(self, row: str) -> tuple[str, ...]:
        """The heads that a row has: as evaluated, else by its settings."""
        if len(self.by_job):
            found = set(self.by_job.loc[self.by_job["row"] == row, "head"])
            if found:
                return tuple(head for head in HEADS if head in found)
        if split_row(row)[0] == POST_DAE:
            return HEADS
        if any(entry.is_predictor for entry in self.jobs_of(row, STEPS)):
            return HEADS[:1]
        return HEADS if settings_of(self.request, row, seed=0).losses.stn else HEADS[:1]


def collect(bench: Path) -> Collected:
    """Read a benchmark folder. Raises CoopsegError where it is none, or a record in it cannot be read."""
    request = read_request(bench)
    jobs = tuple(_read(job, job.folder(bench)) for job in make_jobs(request))
    rows = dict.fromkeys(entry.job.row for entry in jobs)
    return Collected(bench, request, jobs, {row: read_probe(bench, row).model_dump() for row in rows})


def _read(job: Job, folder: Path) -> Ended:
    ends = {"finished": folder / RESULT, "failed": folder / ERROR}
    state = next((state for state, file in ends.items() if file.is_file()), "waiting")
    outcome = read_json(ends[state]) if state in ends else {}
    records = [folder / TRAINING / RUN, folder / EVALUATION / RECORD]
    run, evaluation = (read_json(file) if file.is_file() else {} for file in records)
    return Ended(job, folder, state, outcome, run, evaluation)


def read_scores(metrics: Path) -> pd.DataFrame:
    """The rows of a metrics.json, per patient."""
    try:
        rows = json.loads(metrics.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError) as error:
        advice = "remove the job's folder and run it again"
        raise CoopsegError(f"{metrics}: cannot be read ({error!r}); {advice}") from None
    return per_patient(pd.DataFrame(rows))
