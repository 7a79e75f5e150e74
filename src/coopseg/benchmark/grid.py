"""From a request to jobs, each of which can be run by itself, once those it needs have finished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from coopseg.benchmark.request import WHOLE, Request
from coopseg.config.methods import MAIN_ROWS, POST_DAE, split_row
from coopseg.errors import CoopsegError
from coopseg.scans.files import write_atomically
from coopseg.text import read_json

JOBS, JOB, RESULT, ERROR, LOG = "jobs", "job.json", "result.json", "error.json", "log.txt"
TRAINING, EVALUATION, SEVERITIES = "training", "evaluation", "severities"
# Standard training as published trains the STN jointly; "standard" trains it on detached predictions. Every
# row is held against both, the published one first.
BASELINES = ("cooperative-no-latent", "standard")
UNDER_POST_DAE = "standard"
TIMEKEEPER = "cooperative"  # how long it takes is what rows get at equal time

Kind = Literal["train", "post-dae", "statistics", "predictor"]


@dataclass(frozen=True)
class Job:
    """One training with its evaluation, or the evaluation of a predictor. needs: ids of other jobs.

    kind "statistics": no training, but the networks of the job that it needs once more, predicted otherwise.
    """

    id: str
    row: str
    kind: Kind
    draw: str
    seed: int
    budget: Literal["steps", "time"] = "steps"
    needs: tuple[str, ...] = ()

    def folder(self, bench: Path) -> Path:
        """Where everything of it lies."""
        return bench / JOBS / self.id


def make_jobs(request: Request) -> tuple[Job, ...]:
    """The union of all blocks, draw by draw, then what stands on it, predictors, and rows at equal time.

    No two jobs share an id, and each comes after those that it needs.
    """
    jobs: dict[str, Job] = {}
    for row, draw, seed in _cells(request):
        for job in _jobs_of(row, draw, seed):
            jobs.setdefault(job.id, job)
    for entry in request.predictors:
        job = Job(_name(entry.name, WHOLE, 0), entry.name, "predictor", WHOLE, 0)
        jobs.setdefault(job.id, job)
    if request.equal_time:
        for job in list(jobs.values()):
            if job.kind == "train" and job.row in MAIN_ROWS and job.row != TIMEKEEPER:
                timed = replace(job, id=f"{job.id}-equal-time", budget="time", needs=(job.id,))
                jobs[timed.id] = timed
    return tuple(jobs.values())


def notes(request: Request) -> list[str]:
    """A line about every job that was added unasked."""
    asked = set(_cells(request))
    added = dict.fromkeys(
        f"{job.row}, draw {draw}, seed {seed}: added, since {row} stands on it"
        for row, draw, seed in _cells(request)
        for job in _jobs_of(row, draw, seed)
        if (job.row, draw, seed) not in asked
    )
    return list(added)


def probed_rows(request: Request) -> tuple[str, ...]:
    """The rows whose steps are timed: all that are trained by the loop."""
    rows = [row for row in request.rows if row != POST_DAE and not split_row(row)[1]]
    return tuple(dict.fromkeys([*rows, TIMEKEEPER] if request.equal_time else rows))


def levels(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs that need no other; those that need only these; and so on."""
    left = list(jobs)
    while left:
        names = {job.id for job in left}
        ready = [job for job in left if not names & set(job.needs)]
        yield ready
        left = [job for job in left if job not in ready]


def write_job(bench: Path, job: Job) -> None:
    """Its job.json, unless it is there."""
    path = job.folder(bench) / JOB
    if not path.is_file():
        write_atomically(path, (json.dumps(asdict(job), indent=1) + "\n").encode())


def read_job(bench: Path, name: str) -> Job:
    """From its job.json. Raises CoopsegError where there is none."""
    path = bench / JOBS / name / JOB
    if not path.is_file():
        raise CoopsegError(f"{path}: no such job; if another machine runs it, share the folder with that one")
    values: dict[str, Any] = read_json(path)
    return Job(**{**values, "needs": tuple(values["needs"])})


def is_finished(bench: Path, job: Job, request: Request) -> bool:
    """Whether nothing of it is left to do, severities that were asked for later included."""
    folder = job.folder(bench)
    wanted = [folder / SEVERITIES / f"{value:g}" for value in request.severities_of(job.row)]
    return (folder / RESULT).is_file() and (job.budget == "time" or all(path.is_dir() for path in wanted))


def _cells(request: Request) -> list[tuple[str, str, int]]:
    """(row, draw, seed) in the order in which a table fills best: a draw whole before the next."""
    cells = [
        (row, draw, seed)
        for block in request.blocks
        for draw in block.draws
        for seed in block.seeds
        for row in block.methods
    ]
    return list(dict.fromkeys(cells))


def _jobs_of(row: str, draw: str, seed: int) -> Sequence[Job]:
    base, k = split_row(row)
    if k:
        first = _jobs_of(base, draw, seed)
        return [*first, Job(_name(row, draw, seed), row, "statistics", draw, seed, needs=(first[-1].id,))]
    if row != POST_DAE:
        return [Job(_name(row, draw, seed), row, "train", draw, seed)]
    stands_on = Job(_name(UNDER_POST_DAE, draw, seed), UNDER_POST_DAE, "train", draw, seed)
    return [stands_on, Job(_name(row, draw, seed), row, "post-dae", draw, seed, needs=(stands_on.id,))]


def _name(row: str, draw: str, seed: int) -> str:
    return f"{row}-{draw}-{seed}".replace(":", "_").replace("/", "_")
