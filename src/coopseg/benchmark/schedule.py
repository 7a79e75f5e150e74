"""The course of a benchmark: copies, probes, jobs in the order of what they need, and the table."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from coopseg.benchmark.data import corrupt_tested
from coopseg.benchmark.executor import Ended, Executor
from coopseg.benchmark.forecast import Forecast
from coopseg.benchmark.grid import (
    ERROR,
    LOG,
    RESULT,
    Job,
    is_finished,
    levels,
    make_jobs,
    notes,
    probed_rows,
    write_job,
)
from coopseg.benchmark.needs import lacking
from coopseg.benchmark.probe import PROBES, read_probe
from coopseg.benchmark.records import read_error, write_error
from coopseg.benchmark.request import Request
from coopseg.benchmark.tasks import Task
from coopseg.benchmark.tethered import SIGNALLED
from coopseg.errors import CoopsegError
from coopseg.scans.files import lock

TABLE_EVERY = 300.0  # seconds, while jobs run

Report = Callable[[str], None]


@dataclass(frozen=True)
class Benchmark:
    """How it ended. failed: the error of each job that did, by its id."""

    out: Path
    finished: tuple[str, ...]
    failed: dict[str, str]


class Schedule:
    """One run of what is left of a benchmark. report: called with every line of progress."""

    def __init__(self, bench: Path, request: Request, executor: Executor, report: Report) -> None:
        self.bench, self.request, self.executor, self.report = bench.resolve(), request, executor, report
        self.jobs = make_jobs(request)
        self.forecast = Forecast(self.bench, request, width=executor.width)
        self.written = time.monotonic()  # the table, last

    def run(self) -> Benchmark:
        """To the end of all jobs. Raises CoopsegError where another process works in the folder."""
        with claimed(self.bench), self._saying_how_to_go_on():
            for job in self.jobs:
                write_job(self.bench, job)
            waiting = [job for job in self.jobs if not is_finished(self.bench, job, self.request)]
            for job in waiting:
                (job.folder(self.bench) / ERROR).unlink(missing_ok=True)
            rows = [row for row in probed_rows(self.request) if not self._is_probed(row)] if waiting else []
            self.report(self.forecast.begin(self.jobs, waiting, probes=rows))
            if waiting:
                for line in notes(self.request):
                    self.report(line)
                self._work(rows)
            self._write_table()
        failed = {job.id: error["error"] for job in self.jobs if (error := read_error(self.bench, job))}
        finished = [job.id for job in self.jobs if (job.folder(self.bench) / RESULT).is_file()]
        return Benchmark(self.bench, tuple(finished), failed)

    def _work(self, rows: Sequence[str]) -> None:
        self.report("copies of the test scans with artefacts")
        corrupt_tested(self.bench, self.request)
        self._probe(rows)
        for level in levels(self.jobs):
            self._run_level([job for job in level if not is_finished(self.bench, job, self.request)])

    def _probe(self, rows: Sequence[str]) -> None:
        """The cost of a step of each row, one at a time and nothing beside."""
        log, home = self.bench / PROBES / LOG, Path.cwd()
        tasks = [Task("coopseg.benchmark.probe", self.bench, row, log, home) for row in rows]
        with closing(self.executor.run(tasks, alone=True)) as all_ended:
            for task, ended in all_ended:
                found = read_probe(self.bench, task.argument)
                seconds, error = found.get("seconds_per_step"), found.get("error")
                text = f"{seconds:.3g} s a step" if seconds else f"not timed: {error or reason(ended)}"
                self.report(f"{task.argument}: {text}")

    def _run_level(self, level: Sequence[Job]) -> None:
        """Jobs that need none of each other."""
        jobs = {job.id: job for job in level if self._has_what_it_needs(job)}
        tasks = [
            Task("coopseg.benchmark.job", self.bench, job.id, job.folder(self.bench) / LOG, Path.cwd())
            for job in jobs.values()
        ]
        with closing(self.executor.run(tasks)) as all_ended:
            for task, ended in all_ended:
                self._settle(jobs[task.argument], ended)
                self._write_table_meanwhile()

    def _has_what_it_needs(self, job: Job) -> bool:
        if reason := lacking(self.bench, job):
            self._fail(job, reason, kind="CoopsegError")
        return not reason

    def _settle(self, job: Job, ended: Ended) -> None:
        """Whatever became of its process, the job is now finished or failed."""
        if is_finished(self.bench, job, self.request):
            left = [each for each in self.jobs if self._waits(each)]
            self.report(self.forecast.after(job, left, of=len(self.jobs)))
        elif error := read_error(self.bench, job):
            self.report(f"{job.id}: failed: {error['error']}")
        else:
            self._fail(job, reason(ended), kind="Ended")

    def _fail(self, job: Job, error: str, *, kind: str) -> None:
        write_error(job.folder(self.bench), error, kind=kind)
        self.report(f"{job.id}: failed: {error}")

    def _waits(self, job: Job) -> bool:
        return not is_finished(self.bench, job, self.request) and not read_error(self.bench, job)

    def _is_probed(self, row: str) -> bool:
        return "seconds_per_step" in read_probe(self.bench, row)

    def _write_table(self) -> None:
        from coopseg.benchmark.output import write_table

        write_table(self.bench)

    def _write_table_meanwhile(self) -> None:
        """Now and then. A table that cannot be written yet must not end days of work."""
        if time.monotonic() - self.written < TABLE_EVERY:
            return
        try:
            self._write_table()
        except Exception as error:
            self.report(f"the table could not be written: {error}")
        self.written = time.monotonic()

    @contextmanager
    def _saying_how_to_go_on(self) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self.report(f"stopped; go on with `coopseg benchmark --resume {self.bench}`")
            raise


def reason(ended: Ended) -> str:
    """Why a process left neither a result nor an error."""
    if ended.code is None:
        return ended.reason
    if ended.code == -signal.SIGKILL:
        return "its process was killed by SIGKILL, most likely for want of memory; use fewer workers"
    number = -ended.code if ended.code < 0 else ended.code - SIGNALLED
    if 0 < number < signal.NSIG:
        return f"its process was ended by {signal.Signals(number).name}; `--resume` goes on with it"
    return f"its process ended with code {ended.code} and no word; see log.txt"


@contextmanager
def claimed(bench: Path) -> Iterator[None]:
    """Keep a benchmark folder for this process. Raises CoopsegError while another works in it."""
    with open(bench / ".lock", "w") as file:
        if not lock(file):
            raise CoopsegError(f"{bench}: another `coopseg benchmark` works in it; wait, or stop it")
        yield
