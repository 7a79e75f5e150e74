"""How a job ended, in its folder; and how far it is, in its log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coopseg.benchmark.grid import ERROR, LOG, RESULT, TRAINING, Job
from coopseg.cases.splits import RUN
from coopseg.scans.files import write_atomically
from coopseg.text import read_json

if TYPE_CHECKING:
    from coopseg.training.loop import Progress

QUIET = 10.0  # seconds between two lines of progress
LAST_LINES = 20  # of the log, in error.json


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A record."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def write_error(folder: Path, error: str, *, kind: str) -> None:
    """error.json of a job that failed; `error` becomes one line."""
    log = folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    text = " ".join(error.split()) or kind
    write_json(
        folder / ERROR, {"error": text, "kind": kind, "log": "\n".join(lines[-LAST_LINES:]), "when": now()}
    )


def read_result(bench: Path, job: Job) -> dict[str, Any]:
    """result.json, or nothing."""
    return _read(job.folder(bench) / RESULT)


def read_error(bench: Path, job: Job) -> dict[str, Any]:
    """error.json, or nothing."""
    return _read(job.folder(bench) / ERROR)


def read_run(bench: Path, job: Job) -> dict[str, Any]:
    """run.json of its training, or nothing."""
    return _read(job.folder(bench) / TRAINING / RUN)


def now() -> str:
    """The time, for records."""
    return time.strftime("%Y-%m-%dT%H:%M:%S")


def follow() -> Callable[[Progress], None]:
    """Prints the progress of a training, now and then."""
    due = _Now()

    def report(progress: Progress) -> None:
        if progress.kind != "train" or due():
            values = json.dumps(progress.values)
            print(f"step {progress.step} of {progress.steps}, {progress.kind}: {values}", flush=True)

    return report


def count() -> Callable[[int, int, str], None]:
    """Prints the progress of an evaluation, now and then."""
    due = _Now()

    def report(done: int, total: int, name: str) -> None:
        if due() or done == total:
            print(f"evaluated {done} of {total}, {name}", flush=True)

    return report


class _Now:
    """Says whether it is time for another line."""

    def __init__(self) -> None:
        self.last = float("-inf")

    def __call__(self) -> bool:
        if time.monotonic() - self.last < QUIET:
            return False
        self.last = time.monotonic()
        return True


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
