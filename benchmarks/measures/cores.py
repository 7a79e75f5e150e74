"""Measures what a call spends: on the clock, of all cores, and within one function."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from coopseg.workers import choose_workers

EVERY = choose_workers(None, volumes=2**31)  # cores that there are to keep busy


def spent(function: Callable[[], Any]) -> dict[str, float]:
    """Returns wall_s and cpu_s, the seconds of all processes that took part, and cores_busy, a share."""
    wall, cpu = time.perf_counter(), _cpu()
    function()
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "cores_busy": cpu / wall / EVERY}


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@contextmanager
def clocked(owner: Any, name: str) -> Iterator[list[float]]:
    """Adds up CPU seconds of all calls of `owner.name` in this process; right while one thread computes."""
    function, seconds = getattr(owner, name), []

    def timed(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*args, **options)
        finally:
            seconds.append(time.process_time() - start)

    setattr(owner, name, timed)
    try:
        yield seconds
    finally:
        setattr(owner, name, function)
