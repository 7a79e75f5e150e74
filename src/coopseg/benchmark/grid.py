"""Turns a request into jobs, and says what lies in the folder of each.

A job can be run by itself, once those that it needs have finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from coopseg.benchmark.request import Request, now
from coopseg.config.methods import MAIN_ROWS, POST_DAE, split_row
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import RECORD
from coopseg.results.records import Amount, Record, Whole, read_record
from coopseg.results.study import WHOLE
from coopseg.scans.files import write_json
from coopseg.text import shorten

JOBS, JOB, RESULT, ERROR, LOG = "jobs", "job.json", "result.json", "error.json", "log.txt"
TRAINING, EVALUATION, SEVERITIES = "training", "evaluation", "severities"
SCAN_GRID = "scan-grid"  # folder of copies in the scan's grid, and of what a training reaches on them
AGAIN = "remove the job's folder and run it again"
LAST_LINES = 20  # of the log, in error.json
# Standard training as published trains the STN jointly; "standard" trains it on detached predictions. Every
# row is held against both, the published one first.
BASELINES = ("cooperative-no-latent", "standard")
UNDER_POST_DAE = "standard"
TIMEKEEPER = "cooperative"  # how long it takes is what rows get at equal time

Kind = Literal["train", "post-dae", "statistics", "predictor"]
Budget = Literal["steps", "time"]


class Result(Record):
    """Holds result.json of a job that has finished; times in seconds, None if there was no training."""

    id: str
    row: str
    draw: str
    seed: int
    budget: Budget
    steps: Whole | None
    seconds: Amount
    training_seconds: Amount | None
    evaluation_seconds: Amount
    finished: str
    machine: str | None = None  # not kept


class Failure(Record):
    """Holds error.json of a job that failed. log: the last lines of its log.txt."""

    error: str
    kind: str
    log: str
    when: str


@dataclass(frozen=True)
class Job:
    """Describes one training with its evaluation, or the evaluation of a predictor.

    kind: "statistics" trains nothing; the networks of the job that it needs predict once more, otherwise.
    budget: "steps", or "time" for as many steps as fit in the time of the timekeeper. needs: ids of other
    jobs.
    """

    id: str
    row: str
    kind: Kind
    draw: str
    seed: int
    budget: Budget = "steps"
    needs: tuple[str, ...] = ()

    def folder(self, bench: Path) -> Path:
        """Returns the folder of all that belongs to the job."""
        return bench / JOBS / self.id

    def write(self, bench: Path) -> None:
        """Writes job.json, unless it is there."""
        if not (self.folder(bench) / JOB).is_file():
            write_json(self.folder(bench) / JOB, asdict(self))

    def result(self, bench: Path) -> Result | None:
        """Reads result.json, None if the job has not finished."""
        path = self.folder(bench) / RESULT
        return read_record(Result, path, AGAIN) if path.is_file() else None

    def failure(self, bench: Path) -> Failure | None:
        """Reads error.json, None if the job has not failed."""
        path = self.folder(bench) / ERROR
        return read_record(Failure, path, AGAIN) if path.is_file() else None

    def is_finished(self, bench: Path, request: Request) -> bool:
        """Tells whether nothing is left to do, not even severities or predictors asked for later."""
        folder = self.folder(bench)
        if not (folder / RESULT).is_file() or self.budget == "time":
            return (folder / RESULT).is_file()
        left = [folder / SEVERITIES / f"{value:g}" for value in request.severities_of(self.row)]
        left += [folder / SCAN_GRID] if self.is_beside_predictors(bench, request) else []
        return all((each / RECORD).is_file() for each in left)

    def is_beside_predictors(self, bench: Path, request: Request) -> bool:
        """Tells whether it is tested on the copies of predictors too: if there are any and it has weights."""
        if not request.predictors or self.kind == "predictor" or self.budget == "time":
            return False
        owner = self.needs[0] if self.kind == "statistics" else self.id
        return any((bench / JOBS / owner / TRAINING).glob("*.safetensors"))


def make_jobs(request: Request) -> tuple[Job, ...]:
    """Returns all jobs: each (row, draw, seed) of the blocks once, then predictors, then rows at equal time.

    What a job needs, such as the training that Post-DAE builds on, is added and comes before it.
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


def find_job(request: Request, name: str) -> Job:
    """Returns the job of an id. Raises CoopsegError for an id that the request does not have."""
    if job := next((job for job in make_jobs(request) if job.id == name), None):
        return job
    raise CoopsegError(
        f"job {shorten(name)}: not of this benchmark; if another machine runs it, share its folder"
    )


def notes(request: Request) -> list[str]:
    """Returns a line about every job that was added unasked."""
    asked = set(_cells(request))
    added = dict.fromkeys(
        f"{job.row}, draw {draw}, seed {seed}: added, since {row} stands on it"
        for row, draw, seed in _cells(request)
        for job in _jobs_of(row, draw, seed)
        if (job.row, draw, seed) not in asked
    )
    return list(added)


def probed_rows(request: Request) -> tuple[str, ...]:
    """Returns the rows whose steps are timed: all that the training loop trains."""
    rows = [row for row in request.rows if row != POST_DAE and not split_row(row)[1]]
    return tuple(dict.fromkeys([*rows, TIMEKEEPER] if request.equal_time else rows))


def levels(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Yields the jobs that need no other, then those that need only these, and so on."""
    left = list(jobs)
    while left:
        names = {job.id for job in left}
        ready = [job for job in left if not names & set(job.needs)]
        yield ready
        left = [job for job in left if job not in ready]


def write_failure(folder: Path, error: str, *, kind: str) -> None:
    """Writes error.json of a job; `error` becomes one line."""
    log = folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    text = " ".join(error.split()) or kind
    failure = Failure(error=text, kind=kind, log="\n".join(lines[-LAST_LINES:]), when=now())
    write_json(folder / ERROR, failure.model_dump())


def _cells(request: Request) -> list[tuple[str, str, int]]:
    """Returns (row, draw, seed) in the order in which a table fills best: a whole draw before the next."""
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
