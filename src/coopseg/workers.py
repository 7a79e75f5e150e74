"""Works on volumes side by side: a `map` over threads or processes, with results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError

# Like the builtin map. Of several errors the first in order is raised; work that has not begun is dropped.
Map = Callable[..., Iterator[Any]]


def cores() -> int:
    """Counts the cores that this process may use; a scheduler may allow fewer than the machine has."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len(allowed)


def busy_line() -> str:
    """Returns a line if other programs keep this machine busy and torch has several threads, else "".

    Threads of one operator wait for the last of them: while another program has a core, all stand still.
    """
    import torch

    load, threads = os.getloadavg()[0], torch.get_num_threads()
    if threads == 1 or load < cores() / 2:
        return ""
    return (
        f"other programs keep this machine busy (load {load:.1f} on {cores()} cores), and {threads} threads "
        "wait for one another: OMP_NUM_THREADS=1 may be several times faster"
    )


def choose_workers(wanted: int | None, *, volumes: int) -> int:
    """Returns how many workers to start: as wanted, else one per core; never more than there are volumes.

    Raises CoopsegError for fewer than one.
    """
    if wanted is not None and wanted < 1:
        raise CoopsegError(f"workers must be 1 or more, found {wanted}")
    return max(1, min(wanted or cores(), volumes))


@contextmanager
def threads(workers: int) -> Iterator[Map]:
    """Yields a map over threads, each with one torch thread; over the caller's thread if workers is 1.

    It suits work that releases Python's lock, such as networks and large arrays.
    When the block ends, however it ends, no thread is at work any more.
    """
    with one_thread():
        if workers == 1:
            yield map
            return
        pool = ThreadPoolExecutor(workers)
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)


def end_if_imported() -> None:
    """Ends the process, without a word, if it is a worker that only imports the caller's script.

    A worker begins by importing that script. If the call that started it stands at the script's top level, it
    would be made again there, before anything else: by each worker, which then dies of it.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)


def _is_guarded() -> bool:
    """Tells whether the running script, if it is one, asks for its own name before it does something."""
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None) if getattr(main, "__spec__", None) is None else None
    try:
        return script is None or "__main__" in Path(script).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True


@contextmanager
def processes(workers: int, *, begin: Callable[[], None] | None = None) -> Iterator[Map]:
    """Yields a map over processes, each computing with one thread; in this process if workers is 1.

    begin: called first in each worker process, if given. Function, items and results are pickled. When the
    block ends, however it ends, no process is at work any more; if this process is killed, its workers end
    themselves.
    Raises CoopsegError if a worker was killed, and if the script that runs has no guard, so that each worker
    would run it again.
    """
    if workers == 1:
        with one_thread():
            yield map
        return
    end_if_imported()
    # spawn: torch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(begin,))
    try:
        yield pool.map
    except BrokenProcessPool:
        if not _is_guarded():
            raise CoopsegError(
                f"{sys.argv[0]}: each of {workers} worker processes runs this script again from its top; put "
                'what it does under `if __name__ == "__main__":`, or take workers=1'
            ) from None
        raise CoopsegError(
            f"one of {workers} worker processes was killed, most likely for want of memory; use fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch to one thread, so that workers change no rounding of a sum or Fourier transform."""
    import torch  # imported here: `validate` starts without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _begin(begin: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch if it is not loaded yet
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if begin:
        begin()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # it is a worker
    parent.join()
    os._exit(1)
