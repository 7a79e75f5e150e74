"""Runs jobs, each in a process of its own, on this machine or on the workers of a dask cluster.

What they compute does not depend on where they run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol
from uuid import uuid4

from coopseg.errors import CoopsegError, Stopped
from coopseg.text import one_line, shorten, whole_number
from coopseg.workers import cores

INSTALL = 'pip install "coopseg[cluster]"'
PATIENCE = "10s"  # in which a scheduler has to answer
SIGNALLED = 128  # and the number of the signal: the exit code of a process that saved its work and ended


@dataclass(frozen=True)
class Task:
    """Describes a process, python -m MODULE BENCH ARGUMENT TRUSTED..., whose output is appended to `log`.

    home: the folder to run in if it exists, so that the user's own modules are found there. trusted: those of
    them, as module:name, that it may import.
    """

    module: str
    bench: Path
    argument: str
    log: Path
    home: Path
    trusted: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """Returns the command line. -P: no file that lies in `home` by chance stands for a library."""
        return [sys.executable, "-P", "-m", self.module, str(self.bench), self.argument, *self.trusted]


@dataclass(frozen=True)
class Ended:
    """Says how a process ended.

    code: its exit code, the negative signal number if it was killed, or None if the process could not be
    observed; `reason` then says why.
    """

    code: int | None
    reason: str = ""


Results = Generator[tuple[Task, Ended], None, None]


class Executor(Protocol):
    """Runs tasks, each in a process of its own, in any order."""

    @property
    def width(self) -> int:
        """Returns how many tasks run side by side."""
        ...

    def run(self, tasks: Sequence[Task], *, alone: bool = False) -> Results:
        """Yields every task with how it ended, as they end. alone: one after another, on one machine.

        When the iterator is closed or raises, running processes are told to save their work and to end.
        """
        ...


@dataclass
class Processes:
    """Runs tasks, from any thread, until it is told to stop."""

    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def run(self, task: Task, threads: int) -> int:
        """Runs a task to its end; returns its exit code, negative after a signal. threads: of OpenMP."""
        if not task.bench.is_dir():
            raise CoopsegError(
                f"{task.bench}: not seen by this worker; put it on a disk that all of them share"
            )
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with open(task.log, "ab") as log:
            process = self._start(task, threads, log.fileno())
            if process is None:
                return -signal.SIGTERM
            try:
                return process.wait()
            finally:
                self.running.discard(process)
                if process.stdin:
                    process.stdin.close()

    def stop(self) -> None:
        """Tells every process to save its work and to end; none is started any more."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()

    def _start(self, task: Task, threads: int, log: int) -> subprocess.Popen[bytes] | None:
        with self.lock:
            if self.stopped:
                return None
            process = subprocess.Popen(
                task.command,
                cwd=task.home if task.home.is_dir() else None,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                stdin=subprocess.PIPE,  # held open: see `tether`
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal reaches us alone; we tell them
            )
            self.running.add(process)
            return process


class LocalExecutor:
    """Runs processes on this machine, `workers` side by side; each gets its share of the cores."""

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise CoopsegError(f"workers must be 1 or more, found {workers}")
        self.width = workers
        allowed = whole_number(os.environ.get("OMP_NUM_THREADS", "")) or cores()
        self.threads = max(1, allowed // workers)

    def run(self, tasks: Sequence[Task], *, alone: bool = False) -> Results:
        """Runs the tasks; see `Executor`."""
        processes = Processes()
        pool = ThreadPoolExecutor(1 if alone else self.width)
        try:
            futures = {pool.submit(processes.run, task, self.threads): task for task in tasks}
            for future in as_completed(futures):
                yield futures[future], Ended(future.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            pool.shutdown(wait=True)


class DaskExecutor:
    """Runs processes on workers of a dask cluster that see the same disk, one for each of their threads.

    A task whose worker dies is run again on another, three times at most; jobs go on from their checkpoint.
    """

    def __init__(self, scheduler: str) -> None:
        self.distributed = import_distributed()
        try:
            self.client = self.distributed.Client(scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise CoopsegError(
                f"{shorten(scheduler)}: no dask scheduler answers ({one_line(error)}); start one, and "
                "workers, with `dask scheduler` and `dask worker`, and give its tcp://HOST:PORT"
            ) from None

    @property
    def width(self) -> int:
        """Returns the number of threads of all present workers, at least 1."""
        return max(1, int(sum(self.client.nthreads().values())))

    def run(self, tasks: Sequence[Task], *, alone: bool = False) -> Results:
        """Runs the tasks; see `Executor`."""
        key = uuid4().hex
        try:
            for group in [[task] for task in tasks] if alone else [list(tasks)]:
                yield from self._run(key, group, alone=alone)
        finally:
            if self.client.status == "running":
                self.client.run(_stop, key, on_error="ignore")

    def _run(self, key: str, tasks: Sequence[Task], *, alone: bool) -> Results:
        first = sorted(self.client.nthreads())[:1] if alone else []
        futures = {
            self.client.submit(
                _run_on_worker, key, task, key=f"{task.argument}-{uuid4().hex}",
                workers=first or None, allow_other_workers=bool(first),
            ): task
            for task in tasks
        }  # fmt: skip
        for future in self.distributed.as_completed(futures, loop=self.client.loop):
            yield futures[future], self._ended(future)

    def _ended(self, future: Any) -> Ended:
        if future.status == "finished":
            return Ended(future.result())
        if future.status != "error":
            raise CoopsegError("the dask scheduler is gone; start it, then go on with --resume")
        return Ended(None, one_line(future.exception()))


@contextmanager
def open_executor(scheduler: str | None, workers: int) -> Iterator[Executor]:
    """Yields the executor asked for. scheduler: address of a dask scheduler, None for this machine."""
    if scheduler is None:
        yield LocalExecutor(workers)
        return
    executor = DaskExecutor(scheduler)
    try:
        yield executor
    finally:
        executor.client.close()


def import_distributed() -> Any:
    """Imports the optional library of the extra `cluster`. Raises CoopsegError if it is not installed."""
    try:
        import distributed
    except ImportError:
        raise CoopsegError(f"--scheduler needs dask.distributed, which is not installed; {INSTALL}") from None
    return distributed


_on_this_worker: dict[str, Processes] = {}


def _run_on_worker(key: str, task: Task) -> int:
    # dask's nanny sets OMP_NUM_THREADS to 1, which is meant for its own threads
    share = cores() // import_distributed().get_worker().state.nthreads
    return _on_this_worker.setdefault(key, Processes()).run(task, max(1, share))


def _stop(key: str) -> None:
    _on_this_worker.setdefault(key, Processes()).stop()


def tether() -> None:
    """Raises Stopped in this process on SIGTERM, and sends SIGTERM to it at the end of standard input.

    The parent holds our standard input open, so that its end means that the parent has died.
    """
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=_await_end_of_input, daemon=True).start()


def exit_code(work: Callable[[], object], failed: Callable[[Exception], object]) -> int:
    """Does the work of a process; returns its exit code: 0, 1 after a failure, 128 + number after a signal.

    failed: called with what was raised if it is not `Stopped`.
    """
    try:
        work()
    except Stopped as stopped:
        print(stopped, flush=True)
        return SIGNALLED + stopped.signal
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        failed(error)
        return 1
    return 0


def _await_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Stopped("stopped", number)
