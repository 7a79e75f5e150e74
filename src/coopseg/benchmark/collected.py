"""What a benchmark folder holds: the request, the jobs and how they ended, and the scores of the finished."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from coopseg.benchmark.statistics import mean_over, per_patient
from coopseg.cases.select import RUN
from coopseg.config.presets import METHODS, ROWS
from coopseg.config.resolve import resolve_settings
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import RECORD
from coopseg.inference.predictor import HEADS
from coopseg.text import read_json

REQUEST, JOB, RESULT, ERROR, METRICS = (
    "benchmark.json", "job.json", "result.json", "error.json", "metrics.json",
)  # fmt: skip
BASELINE = "standard"
STEPS, TIME = "steps", "time"  # what the rows of a set have had in equal measure


@dataclass(frozen=True)
class Job:
    """One training or prediction with its evaluation. state: "finished", "failed" or "waiting".

    facts: job.json. outcome: result.json or error.json, empty where it waits. run, evaluation: run.json and
    evaluation.json where they are there.
    """

    folder: Path
    state: str
    facts: dict[str, Any]
    outcome: dict[str, Any]
    run: dict[str, Any]
    evaluation: dict[str, Any]

    @property
    def row(self) -> str:
        """The row of the table that it belongs to."""
        return str(self.facts["row"])

    @property
    def draw(self) -> str:
        """The draw of training patients; empty for a predictor, which was not trained here."""
        return str(self.facts.get("draw") or "")

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return int(self.facts.get("seed") or 0)

    @property
    def budget(self) -> str:
        """"steps" or "time"."""
        return str(self.facts.get("budget") or STEPS)

    @property
    def is_predictor(self) -> bool:
        """Whether it was trained elsewhere, so that draws and seeds mean nothing."""
        return self.facts.get("kind") == "predictor"


@dataclass(frozen=True)
class Collected:
    """A benchmark folder, read."""

    folder: Path
    request: dict[str, Any]
    jobs: tuple[Job, ...]
    probes: dict[str, dict[str, Any]]

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """The rows in the order of the published table; then others as asked for; predictors last."""
        asked = [name for block in self.request.get("blocks", []) for name in block["methods"]]
        predictors = {job.row for job in self.jobs if job.is_predictor}
        names = dict.fromkeys([*asked, *(job.row for job in self.jobs)])
        order = {name: place for place, name in enumerate(dict.fromkeys((*ROWS, *METHODS)))}
        return tuple(sorted(names, key=lambda name: (name in predictors, order.get(name, len(order)))))

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
            read_scores(job.folder / "evaluation" / METRICS).assign(
                row=job.row, budget=job.budget, draw=job.draw, seed=job.seed
            )
            for job in self.finished
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    @cached_property
    def finished(self) -> tuple[Job, ...]:
        """The jobs with scores."""
        return tuple(job for job in self.jobs if job.state == "finished")

    def jobs_of(self, row: str, budget: str) -> list[Job]:
        """The jobs of a row; at equal time those of the baseline by steps, where it has no others.

        The time that all rows get is that of the baseline's own steps.
        """
        own = [job for job in self.jobs if (job.row, job.budget) == (row, budget)]
        return own or (self.jobs_of(row, STEPS) if row == BASELINE and budget == TIME else [])

    def heads(self, row: str) -> tuple[str, ...]:
        """The heads that a row has: as evaluated, else by its settings."""
        if len(self.by_job):
            found = set(self.by_job.loc[self.by_job["row"] == row, "head"])
            if found:
                return tuple(head for head in HEADS if head in found)
        if any(job.is_predictor for job in self.jobs if job.row == row):
            return HEADS[:1]
        try:
            settings = resolve_settings(preset=self.request.get("preset") or "default", method=row)
        except CoopsegError:  # a row that is no method of the training, such as post-dae
            return HEADS
        return HEADS if settings.losses.stn else HEADS[:1]


def collect(bench: Path) -> Collected:
    """Read a benchmark folder. Raises CoopsegError where it is none."""
    request = read_json(bench / REQUEST)
    if not isinstance(request, dict) or not isinstance(request.get("blocks"), list):
        raise CoopsegError(f"{bench / REQUEST}: holds no blocks; give the --out of `coopseg benchmark`")
    jobs = [_read_job(file.parent) for file in sorted(bench.glob(f"jobs/*/{JOB}"))]
    known = {(job.row, job.draw, job.seed) for job in jobs}
    missing = [job for job in _asked(bench, request) if (job.row, job.draw, job.seed) not in known]
    probes = {entry["row"]: entry for entry in map(read_json, sorted(bench.glob("probes/*.json")))}
    return Collected(bench, request, (*jobs, *missing), probes)


def _asked(bench: Path, request: dict[str, Any]) -> Iterator[Job]:
    """The jobs of the request, waiting: those whose folder has not been made yet are in it all the same."""
    for block in request["blocks"]:
        for row in block["methods"]:
            for draw in block["draws"]:
                for seed in block["seeds"]:
                    name = f"{row}-{draw}-{seed}"
                    facts = {"id": name, "row": row, "kind": "train", "draw": draw, "seed": seed}
                    yield Job(bench / "jobs" / name, "waiting", facts | {"budget": STEPS}, {}, {}, {})


def _read_job(folder: Path) -> Job:
    ends = {"finished": folder / RESULT, "failed": folder / ERROR}
    state = next((state for state, file in ends.items() if file.is_file()), "waiting")
    outcome = read_json(ends[state]) if state in ends else {}
    records = [folder / "training" / RUN, folder / "evaluation" / RECORD]
    run, evaluation = (read_json(file) if file.is_file() else {} for file in records)
    return Job(folder, state, read_json(folder / JOB), outcome, run, evaluation)


def read_scores(metrics: Path) -> pd.DataFrame:
    """The rows of a metrics.json, per patient."""
    try:
        rows = json.loads(metrics.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError) as error:
        advice = "remove the job's folder and run it again"
        raise CoopsegError(f"{metrics}: cannot be read ({error!r}); {advice}") from None
    return per_patient(pd.DataFrame(rows))
