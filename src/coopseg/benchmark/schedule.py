"""Runs a benchmark: copies, probes, jobs in the order of what they need, and the table."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from coopseg.benchmark.data import Data, corrupt_tested
from coopseg.benchmark.estimate import Forecast
from coopseg.benchmark.executor import SIGNALLED, Ended, Executor, Task
from coopseg.benchmark.grid import (
    ERROR,
    JOBS,
    LOG,
    RESULT,
    TRAINING,
    Job,
    levels,
    make_jobs,
    notes,
    probed_rows,
    write_failure,
)
from coopseg.benchmark.probe import PROBES, read_probe
from coopseg.scans.files import locked

TABLE_EVERY = 300.0  # seconds, while jobs run

Report = Callable[[str], None]


@dataclass(frozen=True)
class Benchmark:
    """Says how a benchmark ended. finished: ids of jobs. failed: the error of each job that failed, by id."""

    out: Path
    finished: tuple[str, ...]
    failed: dict[str, str]


class Schedule:
    """Runs what is left of a benchmark once. report: called with every line of progress."""

    def __init__(self, bench: Path, data: Data, executor: Executor, report: Report) -> None:
        self.bench, self.data, self.executor, self.report = bench.resolve(), data, executor, report
        self.request = data.request
        self.jobs = make_jobs(self.request)
        self.trusted = self.request.code  # all of which was named by whoever began this
        self.forecast = Forecast(self.bench, data, width=executor.width)
        self.written = time.monotonic()  # the table, last

    def run(self) -> Benchmark:
        """Runs all jobs to their end, in a folder that is claimed."""
        for job in self.jobs:
            job.write(self.bench)
        waiting = [job for job in self.jobs if not job.is_finished(self.bench, self.request)]
        for job in waiting:
            (job.folder(self.bench) / ERROR).unlink(missing_ok=True)
        probes = {row: read_probe(self.bench, row) for row in probed_rows(self.request) if waiting}
        rows = [row for row, probe in probes.items() if probe.seconds_per_step is None]
        self.report(self.forecast.begin(self.jobs, waiting, probes=rows))
        if waiting:
            for line in notes(self.request):
                self.report(line)
            self._work(rows)
        self._write_table()
        failed = {job.id: found.error for job in self.jobs if (found := job.failure(self.bench))}
        finished = [job.id for job in self.jobs if (job.folder(self.bench) / RESULT).is_file()]
        return Benchmark(self.bench, tuple(finished), failed)

    def _work(self, rows: Sequence[str]) -> None:
        self.report("copies of the test scans with artefacts")
        corrupt_tested(self.bench, self.data)
        self._probe(rows)
        for level in levels(self.jobs):
            self._run_level([job for job in level if not job.is_finished(self.bench, self.request)])

    def _probe(self, rows: Sequence[str]) -> None:
        """Times a step of each row, one row at a time and nothing beside it."""
        log, home = self.bench / PROBES / LOG, Path.cwd()
        tasks = [Task("coopseg.benchmark.probe", self.bench, row, log, home, self.trusted) for row in rows]
        with closing(self.executor.run(tasks, alone=True)) as all_ended:
            for task, ended in all_ended:
                found = read_probe(self.bench, task.argument)
                seconds = found.seconds_per_step
                text = f"{seconds:.3g} s a step" if seconds else f"not timed: {found.error or reason(ended)}"
                self.report(f"{task.argument}: {text}")

    def _run_level(self, level: Sequence[Job]) -> None:
        """Runs jobs that do not need one another."""
        tasks: dict[Task, Job] = {}
        for job in level:
            if missing := lacking(self.bench, job):
                self._fail(job, missing, kind="CoopsegError")
            else:
                log = job.folder(self.bench) / LOG
                home = Path.cwd()
                tasks[Task("coopseg.benchmark.job", self.bench, job.id, log, home, self.trusted)] = job
        with closing(self.executor.run(list(tasks))) as all_ended:
            for task, ended in all_ended:
                self._settle(tasks[task], ended)
                self._write_table_meanwhile()

    def _settle(self, job: Job, ended: Ended) -> None:
        """Reports a job whose process has ended; one that left no word has failed."""
        result = job.result(self.bench)
        if result and job.is_finished(self.bench, self.request):
            left = [each for each in self.jobs if self._waits(each)]
            self.report(self.forecast.after(result, left, of=len(self.jobs)))
        elif failure := job.failure(self.bench):
            self.report(f"{job.id}: failed: {failure.error}")
        else:
            self._fail(job, reason(ended), kind="Ended")

    def _fail(self, job: Job, error: str, *, kind: str) -> None:
        write_failure(job.folder(self.bench), error, kind=kind)
        self.report(f"{job.id}: failed: {error}")

    def _waits(self, job: Job) -> bool:
        return not job.is_finished(self.bench, self.request) and not job.failure(self.bench)

    def _write_table(self) -> None:
        from coopseg.benchmark.collect import write_table

        write_table(self.bench)

    def _write_table_meanwhile(self) -> None:
        """Writes the table now and then; one that cannot be written yet must not end days of work."""
        if time.monotonic() - self.written < TABLE_EVERY:
            return
        try:
            self._write_table()
        except Exception as error:
            self.report(f"the table could not be written: {error}")
        self.written = time.monotonic()


def reason(ended: Ended) -> str:
    """Says why a process left neither a result nor an error."""
    if ended.code is None:
        return ended.reason
    if ended.code == -signal.SIGKILL:
        return "its process was killed by SIGKILL, most likely for want of memory; use fewer workers"
    number = -ended.code if ended.code < 0 else ended.code - SIGNALLED
    if 0 < number < signal.NSIG:
        return f"its process was ended by {signal.Signals(number).name}; `--resume` goes on with it"
    return f"its process ended with code {ended.code} and no word; see log.txt"


@contextmanager
def claimed(bench: Path, report: Report) -> Iterator[None]:
    """Keeps a benchmark folder for this process, and reports how to go on if it is interrupted.

    Raises CoopsegError, which names the holder, while another process works in the folder.
    """
    with locked(bench):
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            report(f"stopped; go on with `coopseg benchmark --resume {bench}`")
            raise


def lacking(bench: Path, job: Job) -> str:
    """Says why a job cannot be done; "" if it can.

    A job that was restored from kept numbers has no weights: no Post-DAE can stand on it, it cannot predict
    with other statistics, and no severity can be added to it. It is not trained again unasked, since its
    scores would change.
    """
    for name in job.needs:
        if not (bench / JOBS / name / RESULT).is_file():
            return f"needs {name}, which failed"
    source = _source(bench, job)
    if source is None or any((source / TRAINING).glob("*.safetensors")):
        return ""
    own = source == job.folder(bench)
    what = "its weights were not kept" if own else f"needs the weights of {source.name}, which were not kept"
    return f"{what}; remove {source} to have it trained anew, then go on with --resume"


def _source(bench: Path, job: Job) -> Path | None:
    """Returns the folder of the job whose weights this one reads; None if it makes its own or has none."""
    finished = (job.folder(bench) / RESULT).is_file()  # what is left then is severities
    if job.kind == "statistics" or (job.kind == "post-dae" and not finished):
        return bench / JOBS / job.needs[0]
    return job.folder(bench) if finished and job.kind != "predictor" else None
