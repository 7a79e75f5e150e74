"""What a benchmark folder holds: the request, the jobs and how they ended; and the table made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

import pandas as pd

from coopseg.benchmark.grid import (
    AGAIN,
    BASELINES,
    EVALUATION,
    SCAN_GRID,
    SEVERITIES,
    TIMEKEEPER,
    TRAINING,
    Failure,
    Job,
    Result,
    make_jobs,
)
from coopseg.benchmark.probe import Probe, read_probe
from coopseg.benchmark.request import Request, read_request, settings_of
from coopseg.cases.splits import RUN
from coopseg.config.methods import DESCRIPTIONS, METHODS, POST_DAE, ROWS, split_row
from coopseg.evaluation.run import RECORD
from coopseg.evaluation.tables import METRICS
from coopseg.inference.predictor import HEADS
from coopseg.results.files import write_results
from coopseg.results.patients import per_patient
from coopseg.results.records import EvaluationFile, MetricsFile, RunFile, read_checked
from coopseg.results.study import STEPS, TIME, DataSet, Jobs, Row, Study, Trained
from coopseg.results.table import Cost, Ended, Results, Spent, Unfinished, tabulate, to_json
from coopseg.text import Json

TABLE = "table"
PROBED = set(Probe.model_fields) - {"row", "steps", "steps_of_training"}
NOTES = {POST_DAE: "its second head is the FTN followed by the denoising autoencoder, not by an STN"}


@dataclass(frozen=True)
class JobRecord:
    """A job and what has become of it; both result and failure are None where it waits.

    run, evaluation: run.json and evaluation.json, empty where they are not there; beside: the evaluation.json
    of the copies of predictors.
    """

    job: Job
    folder: Path
    result: Result | None
    failure: Failure | None
    run: Json
    evaluation: Json
    beside: Json

    @property
    def state(self) -> str:
        """Returns "finished", "failed" or "waiting"."""
        return "finished" if self.result else "failed" if self.failure else "waiting"


@dataclass(frozen=True)
class Collected:
    """A benchmark folder, read."""

    folder: Path
    request: Request
    jobs: tuple[JobRecord, ...]
    probes: dict[str, Probe]

    @property
    def names(self) -> list[str]:
        """Returns the rows in the order of the published table; then others as asked for; predictors last."""
        predictors = {entry.job.row for entry in self.jobs if entry.job.kind == "predictor"}
        order = {name: place for place, name in enumerate(dict.fromkeys((*ROWS, *METHODS)))}

        def place(name: str) -> tuple[bool, int, bool]:
            base, k = split_row(name)
            return name in predictors, order.get(base, len(order)), bool(k)

        return sorted(dict.fromkeys(entry.job.row for entry in self.jobs), key=place)

    @cached_property
    def study(self) -> Study:
        """Returns the rows and the scores of their finished jobs."""
        trained = tuple(self._trained(entry) for entry in self.jobs if entry.state == "finished")
        return Study(tuple(self._row(name, trained) for name in self.names), trained, BASELINES)

    @cached_property
    def results(self) -> Results:
        """Returns the table."""
        return tabulate(self.study, cost=_costs(self), timekeeper=TIMEKEEPER, jobs=_ended(self.jobs))

    def budgets(self, job: Job) -> tuple[str, ...]:
        """Returns the budgets in which a job takes part.

        Under the time budget the timekeeper has no job of its own: its step-budget jobs define the time that
        other rows get.
        """
        timed = job.row == TIMEKEEPER and any(entry.job.budget == TIME for entry in self.jobs)
        return (STEPS, TIME) if timed else (job.budget,)

    def jobs_of(self, row: str, budget: str = STEPS) -> list[JobRecord]:
        """Returns the jobs of a row that take part under a budget."""
        return [one for one in self.jobs if one.job.row == row and budget in self.budgets(one.job)]

    def _trained(self, entry: JobRecord) -> Trained:
        job, files = entry.job, sorted(entry.folder.glob(f"{SEVERITIES}/*/{METRICS}"))
        tested = {EVALUATION: entry.evaluation} | ({SCAN_GRID: entry.beside} if entry.beside else {})
        return Trained(
            row=job.row,
            draw=job.draw,
            seed=job.seed,
            scores=pd.concat(
                [read_scores(entry.folder / name / METRICS) for name in tested], ignore_index=True
            ),
            data=tuple(
                DataSet(one["name"], one["domain"], tuple(one["patients"]), one["volumes"])
                for record in tested.values()
                for one in record["data"]
            ),
            budgets=self.budgets(job),
            predictor=job.kind == "predictor",
            severities={float(file.parent.name): read_scores(file) for file in files}
            if job.budget == STEPS
            else {},
        )

    def _row(self, name: str, trained: Sequence[Trained]) -> Row:
        own = [one for one in trained if one.row == name and STEPS in one.budgets]
        jobs = {budget: _count(found) for budget in (STEPS, TIME) if (found := self.jobs_of(name, budget))}
        predictor = any(entry.job.kind == "predictor" for entry in self.jobs_of(name))
        base, k = split_row(name)
        described = DESCRIPTIONS.get(base, "a predictor trained elsewhere" if predictor else "")
        return Row(
            name=name,
            title=self.request.title_of(name),
            heads=self._heads(name, [one for one in trained if one.row == name], predictor=predictor),
            jobs=jobs,
            description=f"the networks of {base} predicted with scan statistics {k}" if k else described,
            note=NOTES.get(base, ""),
            predictor=predictor,
            draws=tuple(sorted({one.draw for one in own if not predictor})),
            seeds=tuple(sorted({one.seed for one in own if not predictor})),
        )

    def _heads(self, row: str, trained: Sequence[Trained], *, predictor: bool) -> tuple[str, ...]:
        """The heads that a row has: as evaluated, else by its settings."""
        if found := {head for one in trained for head in one.scores["head"].unique()}:
            return tuple(head for head in HEADS if head in found)
        if split_row(row)[0] == POST_DAE:
            return HEADS
        if predictor or not settings_of(self.request, row, seed=0).losses.stn:
            return HEADS[:1]
        return HEADS


def collect(bench: Path) -> Collected:
    """Read a benchmark folder. Raises CoopsegError where it is none, or a record in it cannot be read."""
    request = read_request(bench)
    jobs = tuple(_read(bench, job) for job in make_jobs(request))
    rows = dict.fromkeys(entry.job.row for entry in jobs)
    return Collected(bench, request, jobs, {row: read_probe(bench, row) for row in rows})


def read_results(bench: Path) -> Results:
    """Read the table of a benchmark folder. Raises CoopsegError where it is none."""
    return collect(bench).results


def write_table(bench: Path) -> Path:
    """Write BENCH/table/ from all that has finished so far; see `write_results`. Returns that folder.

    It can be written again at any time; each file is replaced whole. results.json holds the request, too.
    Raises CoopsegError where the folder is no benchmark.
    """
    found = collect(bench)
    content = to_json(found.results) | {"request": found.request.model_dump(mode="json")}
    return write_results(found.results, bench / TABLE, content=content)


def read_scores(metrics: Path) -> pd.DataFrame:
    """Read the rows of a metrics.json, per patient. Raises CoopsegError where they cannot be read."""
    rows = read_checked(MetricsFile, metrics, AGAIN)["rows"]
    return per_patient(pd.DataFrame(rows))


def _read(bench: Path, job: Job) -> JobRecord:
    folder = job.folder(bench)
    run, evaluation, result = folder / TRAINING / RUN, folder / EVALUATION / RECORD, job.result(bench)
    beside = folder / SCAN_GRID / RECORD
    failure = None if result else job.failure(bench)
    return JobRecord(
        job,
        folder,
        result,
        failure,
        run=read_checked(RunFile, run, AGAIN) if run.is_file() else {},
        evaluation=read_checked(EvaluationFile, evaluation, AGAIN) if result or evaluation.is_file() else {},
        beside=read_checked(EvaluationFile, beside, AGAIN) if beside.is_file() else {},
    )


def _count(jobs: Sequence[JobRecord]) -> Jobs:
    states = [job.state for job in jobs]
    return Jobs(states.count("finished"), states.count("failed"), len(states))


def _ended(jobs: Sequence[JobRecord]) -> Ended:
    failed, waiting = (
        tuple(_unfinished(job) for job in jobs if job.state == state) for state in ("failed", "waiting")
    )
    return Ended(len(jobs), len(jobs) - len(failed) - len(waiting), failed, waiting)


def _unfinished(entry: JobRecord) -> Unfinished:
    job, said = entry.job, entry.failure.model_dump() if entry.failure else {}
    return Unfinished(job.id, job.row, job.draw, job.seed, job.budget, **said)


def _costs(found: Collected) -> list[Cost]:
    """Returns a line a row: its probe, against the first of BASELINES that has one, and its jobs."""
    steps = {row: probe.seconds_per_step for row, probe in found.probes.items()}
    against = next((row for row in BASELINES if steps.get(row)), None)
    lines = []
    for row in found.names:
        own, baseline = steps.get(row), steps.get(against or "")
        probed = found.probes[row].model_dump(include=PROBED)
        times = own / baseline if own and baseline else None
        lines.append(Cost(row, against, times, **probed, trainings=_spent(found, row)))
    return lines


def _spent(found: Collected, row: str) -> dict[str, Spent]:
    spent = {}
    for budget in (STEPS, TIME):
        jobs = [job for job in found.jobs_of(row, budget) if job.result]
        if results := [job.result for job in jobs if job.result]:
            spent[budget] = Spent(
                jobs=len(jobs),
                steps=_mean([job.run.get("steps") for job in jobs]),
                seconds=_mean([one.seconds for one in results]),
                training_seconds=_mean([one.training_seconds for one in results]),
                evaluation_seconds=_mean([one.evaluation_seconds for one in results]),
            )
    return spent


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
