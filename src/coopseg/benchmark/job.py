"""Does one job in a process of its own: python -m coopseg.benchmark.job BENCH ID.

It does what is missing of training, evaluation and severities; result.json comes last.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from coopseg.benchmark.data import (
    Data,
    open_data,
    scan_grid_sets,
    severe_scan_grid_sets,
    severe_sets,
    split_name,
)
from coopseg.benchmark.executor import exit_code, tether
from coopseg.benchmark.grid import (
    AGAIN,
    EVALUATION,
    JOBS,
    RESULT,
    SCAN_GRID,
    SEVERITIES,
    TRAINING,
    Job,
    Result,
    find_job,
    write_failure,
)
from coopseg.benchmark.probe import steps_in_equal_time
from coopseg.benchmark.request import Request, now, read_request
from coopseg.cases.splits import REQUEST, RUN
from coopseg.config.methods import split_row
from coopseg.evaluation.run import RECORD, evaluate_subject
from coopseg.evaluation.subject import Subject, load_subject, load_target
from coopseg.results.records import EndedRunFile, RunFile, read_checked, read_record
from coopseg.scans.files import locked, write_json
from coopseg.scans.types import Dataset
from coopseg.training.run import resume, train

if TYPE_CHECKING:
    from coopseg.training.loop import Progress

QUIET = 10.0  # seconds between two lines of progress


def main(bench: Path, name: str, *trusted: str) -> int:
    """Runs a job; returns its exit code, see `exit_code`. If it failed, error.json says how.

    trusted: the methods and predictors of the user's own, as module:name, that it may import.
    """
    folder = bench / JOBS / name
    return exit_code(
        lambda: run_job(bench, name, trusted),
        lambda error: write_failure(folder, str(error), kind=type(error).__name__),
    )


def run_job(bench: Path, name: str, trusted: Collection[str] = ()) -> None:
    """Does what is missing of a job. Raises whatever goes wrong."""
    begun, request = time.monotonic(), read_request(bench, trusted=trusted)
    job = find_job(request, name)
    folder = job.folder(bench)
    # One whose worker has died may still be ending.
    with locked(folder, waiting=lambda line: print(f"{now()} {line}; waiting", flush=True)):
        if job.is_finished(bench, request):
            return
        print(f"{now()} {job.id} begins on {platform.node()}, process {os.getpid()}", flush=True)
        work = Work(bench, job, open_data(request))
        work.train()
        trained = folder / TRAINING / RUN
        run = read_checked(RunFile, trained, AGAIN) if trained.is_file() else {}
        # A training that was broken off counts what processes before this one spent on it.
        before = max(0.0, run.get("seconds", 0.0) - (time.monotonic() - begun))
        seconds = work.evaluate()
        ended = {"finished": now(), "machine": platform.node()}
        result = job.result(bench) or Result(
            id=job.id, row=job.row, draw=job.draw, seed=job.seed, budget=job.budget, steps=run.get("steps"),
            seconds=before + time.monotonic() - begun, training_seconds=run.get("seconds"),
            evaluation_seconds=seconds, **ended,
        )  # fmt: skip
        # Severities that were asked for later belong to no comparison of costs.
        write_json(folder / RESULT, result.model_dump() | ended)
        print(f"{now()} {job.id} finished", flush=True)


@dataclass(frozen=True)
class Work:
    """Trains and evaluates for one job; whatever is there already is kept."""

    bench: Path
    job: Job
    data: Data

    @property
    def request(self) -> Request:
        """Returns what the benchmark was asked for."""
        return self.data.request

    @property
    def needed(self) -> Path:
        """Returns the run folder of the first job that this one needs."""
        return self.bench / JOBS / self.job.needs[0] / TRAINING

    def train(self) -> None:
        """Trains to run.json, from nothing or from the checkpoint of a training that was broken off."""
        job, request, out = self.job, self.request, self.job.folder(self.bench) / TRAINING
        if job.kind in ("predictor", "statistics") or (out / RUN).is_file():
            return
        if job.kind == "train" and (out / REQUEST).is_file():
            resume(out, method=job.row, settings=request.settings, progress=follow())
            return
        shutil.rmtree(out, ignore_errors=True)  # of a job that was killed before anything could be kept
        if job.kind == "post-dae":
            from coopseg.rivals.post_dae import train_post_dae

            train_post_dae(self.needed, out, trust=request.code, progress=follow())
            return
        train(
            self.data.own.root,
            out,
            preset=request.preset,
            method=job.row,
            split=self.data.write_split(self.bench, job.draw),
            layout=request.layout,
            labels=request.labels,
            settings=request.settings | self._steps(),
            seed=job.seed,
            device=request.device,
            precision=request.precision,
            progress=follow(),
        )

    def evaluate(self) -> float:
        """Does the evaluation, the severities and the copies of predictors; returns the seconds of the first.

        Predictors are tested on copies in the scan's grid alone, others on the published ones and on these.
        """
        job, folder = self.job, self.job.folder(self.bench)
        predictor = job.kind == "predictor"
        test = self.data.tested if predictor else self.data.split(job.draw).test
        whole, severe = (
            (self.data.predictor_sets, severe_scan_grid_sets)
            if predictor
            else (self.data.test_sets, severe_sets)
        )
        begun = time.monotonic()
        self._evaluate(whole(self.bench, test), folder / EVALUATION)
        seconds = time.monotonic() - begun
        for severity in self.request.severities_of(job.row) if job.budget == "steps" else ():
            sets = severe(self.bench, severity, test)
            self._evaluate(sets, folder / SEVERITIES / f"{severity:g}", pictures=False)
        if job.is_beside_predictors(self.bench, self.request):
            self._evaluate(scan_grid_sets(self.bench, test), folder / SCAN_GRID, pictures=False)
        return seconds

    def _steps(self) -> dict[str, int]:
        """Returns, under equal time, the setting for as many steps as fit; else none."""
        if self.job.budget == "steps":
            return {}
        ordinary = read_record(EndedRunFile, self.needed / RUN, AGAIN).steps
        return {"training.steps": steps_in_equal_time(self.bench, self.job.row, ordinary)}

    def _evaluate(self, data: Sequence[Dataset], out: Path, *, pictures: bool = True) -> None:
        if (out / RECORD).is_file():
            return
        shutil.rmtree(out, ignore_errors=True)  # what a killed job had begun
        evaluate_subject(
            self._subject(),
            data,
            out,
            split={"name": split_name(self.request, self.job.draw), "part": "test"},
            spacing=self.request.spacing,
            workers=torch.get_num_threads(),
            pictures=pictures,
            progress=count(),
        )

    def _subject(self) -> Subject:
        job, device, precision = self.job, self.request.device, self.request.precision
        if job.kind == "predictor":
            target = next(entry.target for entry in self.request.predictors if entry.name == job.row)
            classes = self.data.own.labels.names
            return load_target(job.row, target, classes=classes, device=device, precision=precision)
        statistics = split_row(job.row)[1] if job.kind == "statistics" else None
        run = job.folder(self.bench) / TRAINING if statistics is None else self.needed
        trust = self.request.code  # checked when the request was read
        return load_subject(run, device=device, precision=precision, scan_statistics=statistics, trust=trust)


def follow() -> Callable[[Progress], None]:
    """Returns a function that prints the progress of a training, now and then."""
    due = _now_and_then()

    def report(progress: Progress) -> None:
        if progress.kind != "train" or due():
            values = json.dumps(progress.values)
            print(f"step {progress.step} of {progress.steps}, {progress.kind}: {values}", flush=True)

    return report


def count() -> Callable[[int, int, str], None]:
    """Returns a function that prints the progress of an evaluation, now and then."""
    due = _now_and_then()
    return lambda done, total, name: (
        print(f"evaluated {done} of {total}, {name}", flush=True) if due() or done == total else None
    )


def _now_and_then() -> Callable[[], bool]:
    """Returns a function that says whether QUIET seconds have passed since it last said so."""
    last = -QUIET

    def due() -> bool:
        nonlocal last
        if time.monotonic() - last < QUIET:
            return False
        last = time.monotonic()
        return True

    return due


if __name__ == "__main__":
    tether()
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
