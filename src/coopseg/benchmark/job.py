"""One job in a process of its own: python -m coopseg.benchmark.job BENCH ID.

It does what is missing of training, evaluation and severities; result.json comes last.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coopseg.benchmark.grid import JOBS, RESULT, is_finished, read_job
from coopseg.benchmark.records import now, read_result, read_run, write_error, write_json
from coopseg.benchmark.request import read_request
from coopseg.benchmark.tethered import SIGNALLED, tether
from coopseg.benchmark.work import evaluate_job, train_job
from coopseg.errors import Stopped
from coopseg.scans.files import lock


def main(bench: Path, name: str) -> int:
    """Run a job; its exit code. 1: it failed, and error.json says how; 128 and more: it was stopped."""
    try:
        run_job(bench, name)
    except Stopped as stopped:
        print(stopped, flush=True)
        return SIGNALLED + stopped.signal
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        write_error(bench / JOBS / name, str(error), kind=type(error).__name__)
        return 1
    return 0


def run_job(bench: Path, name: str) -> None:
    """Do what is missing of a job. Raises whatever goes wrong."""
    job, request, begun = read_job(bench, name), read_request(bench), time.monotonic()
    with alone(job.folder(bench)):
        if is_finished(bench, job, request):
            return
        print(f"{now()} {job.id} begins on {platform.node()}, process {os.getpid()}", flush=True)
        train_job(bench, job, request)
        run, earlier = read_run(bench, job), read_result(bench, job)
        # A training that was broken off counts what processes before this one spent on it.
        before = max(0.0, run.get("seconds", 0.0) - (time.monotonic() - begun))
        seconds = evaluate_job(bench, job, request)
        result = {
            **{key: getattr(job, key) for key in ("id", "row", "draw", "seed", "budget")},
            "steps": run.get("steps"),
            "seconds": before + time.monotonic() - begun,
            "training_seconds": run.get("seconds"),
            "evaluation_seconds": seconds,
        }
        # Severities that were asked for later belong to no comparison of costs.
        write_json(
            job.folder(bench) / RESULT, result | earlier | {"finished": now(), "machine": platform.node()}
        )
        print(f"{now()} {job.id} finished", flush=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process works on the job: one whose worker died may still be ending."""
    with open(folder / ".lock", "w") as file:
        if not lock(file):
            print(f"{now()} {folder.name}: another process works on it; waiting", flush=True)
            lock(file, wait=True)
        yield


if __name__ == "__main__":
    tether()
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
