"""Where jobs run: this machine, or the workers of a dask cluster. What they compute does not depend on it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from coopseg.benchmark.tasks import Processes, Task
from coopseg.errors import CoopsegError
from coopseg.text import one_line, shorten, whole_number
from coopseg.workers import cores

INSTALL = 'pip install "coopseg[cluster]"'
PATIENCE = "10s"  # in which a scheduler has to answer


@dataclass(frozen=True)
class Ended:
    """How a process ended. code: negative after a signal; None where none was seen, for a `reason`."""

    code: int | None
    reason: str = ""


Results = Generator[tuple[Task, Ended], None, None]


class Executor(Protocol):
    """Runs tasks, each in a process of its own, in any order."""

    @property
    def width(self) -> int:
        """How many run side by side."""
        ...

    def run(self, tasks: Sequence[Task], *, alone: bool = False) -> Results:
        """Every task with how it ended, as they end. alone: one after another, on one machine.

        When the iterator is closed or raises, those that run are told to save what they need and to end.
        """
        ...


class LocalExecutor:
    """Processes of this machine. workers: side by side; each gets its share of the cores."""

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise CoopsegError(f"workers must be 1 or more, found {workers}")
        self.width = workers
        allowed = whole_number(os.environ.get("OMP_NUM_THREADS", "")) or cores()
        self.threads = max(1, allowed // workers)

    def run(self, tasks: Sequence[Task], *, alone: bool = False) -> Results:
        """See `Executor`."""
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
    """Workers of a dask cluster that see the same disk. Each runs as many tasks at once as it has threads.

    A task whose worker dies is run again on another, three times at most; jobs go on from their checkpoint.
    """

    def __init__(self, scheduler: str) -> None:
        distributed = import_distributed()
        try:
            self.client = distributed.Client(scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise CoopsegError(
                f"{shorten(scheduler)}: no dask scheduler answers ({one_line(error)}); start one, and "
                "workers, with `dask scheduler` and `dask worker`, and give its tcp://HOST:PORT"
            ) from None
        self.distributed = distributed

    @property
    def width(self) -> int:
        """Threads of all workers that there are now; 1 at least."""
        return max(1, int(sum(self.client.nthreads().values())))

    def run(self, tasks: Sequence[Task], *, alone: bool = False) -> Results:
        """See `Executor`."""
        key = uuid4().hex
        try:
            for group in [[task] for task in tasks] if alone else [list(tasks)]:
                yield from self._run(key, group, alone=alone)
        finally:
            if self.client.status == "running":
                self.client.run(_stop, key, on_error="ignore")

    def _run(self, key: str, tasks: Sequence[Task], *, alone: bool) -> Results:
        where: dict[str, Any] = {}
        if alone and (known := sorted(self.client.nthreads())):
            where = {"workers": known[:1], "allow_other_workers": True}
        futures = {
            self.client.submit(_run_on_worker, key, task, key=f"{task.argument}-{uuid4().hex}", **where): task
            for task in tasks
        }
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
    """The one that is asked for. scheduler: address of a dask scheduler, None for this machine."""
    if scheduler is None:
        yield LocalExecutor(workers)
        return
    executor = DaskExecutor(scheduler)
    try:
        yield executor
    finally:
        executor.client.close()


def import_distributed() -> Any:
    """The optional library of the extra `cluster`."""
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
