"""A grid on a dask cluster of which a worker is killed: it ends complete, and one job is run again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_grid import WORDS, state

pytestmark = pytest.mark.slow
STEPS = 60
ONE_CORE = (
    "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def wait_for(ready: Callable[[], object], seconds: float = 300.0) -> None:
    """Until something is so."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """Address of a scheduler with two workers, each a process of its own, of one thread and one core."""
    found = tmp_path / "scheduler.json"
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port=0", "--no-dashboard"]
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        "--nthreads=1",
        "--no-nanny",
        "--no-dashboard",
    ]
    one_core = [sys.executable, "-c", ONE_CORE]
    commands = [[*start, f"--scheduler-file={found}"], *([[*worker, f"--scheduler-file={found}"]] * 2)]
    processes = [
        subprocess.Popen(
            [*one_core, *command], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for command in commands
    ]
    try:
        wait_for(found.is_file)
        yield json.loads(found.read_text())["address"]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def log(bench: Path, job: str) -> str:
    path = bench / "jobs" / job / "log.txt"
    return path.read_text() if path.is_file() else ""


def test_a_killed_worker_costs_one_job(phantom: dict[str, Path], tmp_path: Path, scheduler: str) -> None:
    out = tmp_path / "bench"
    words = [*WORDS, f"--set=training.steps={STEPS}", "--methods=standard", "--draws=0,1,2"]
    command = [
        sys.executable,
        "-m",
        "coopseg",
        "benchmark",
        "--data",
        str(phantom["acdc"]),
        "--out",
        str(out),
    ]
    with subprocess.Popen(
        [*command, *words, "--scheduler", scheduler], stderr=subprocess.PIPE, text=True
    ) as process:
        jobs = [f"standard-{draw}-0" for draw in (0, 1, 2)]
        wait_for(lambda: any("step 20 of" in log(out, job) for job in jobs))
        victim = next(job for job in jobs if "step 20 of" in log(out, job))
        number = re.search(r"process (\d+)", log(out, victim))
        assert number
        status = Path(f"/proc/{number[1]}/status").read_text()
        worker = re.search(r"PPid:\s(\d+)", status)
        assert worker
        os.kill(int(worker[1]), signal.SIGKILL)
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert state(out) == dict.fromkeys(jobs, "finished")
    begun = {job: log(out, job).count(" begins on ") for job in jobs}
    assert begun == dict.fromkeys(jobs, 1) | {victim: 2}
    starts = [
        entry["step"]
        for line in (out / "jobs" / victim / "training" / "log.jsonl").read_text().splitlines()
        if (entry := json.loads(line))["kind"] == "start"
    ]
    assert len(starts) == 2
    assert starts[1] >= 20  # from the checkpoint that its process saved when the worker was no more


def test_the_executor_changes_nothing(phantom: dict[str, Path], tmp_path: Path, scheduler: str) -> None:
    words = [*WORDS, "--methods=cooperative", "--draws=0", "--data", str(phantom["acdc"])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, more in {"here": [], "there": ["--scheduler", scheduler]}.items():
        command = [sys.executable, "-m", "coopseg", "benchmark", *words, "--out", str(tmp_path / name), *more]
        subprocess.run(
            command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    here, there = (tmp_path / name / "jobs" / "cooperative-0-0" for name in ("here", "there"))
    records = [json.loads((job / "evaluation" / "evaluation.json").read_text()) for job in (here, there)]
    assert records[0]["model"]["sha256"] == records[1]["model"]["sha256"]
    rows = [json.loads((job / "evaluation" / "metrics.json").read_text())["rows"] for job in (here, there)]
    assert [row | {"seconds": 0} for row in rows[0]] == [row | {"seconds": 0} for row in rows[1]]
    arguments = [
        json.loads((job / "training" / "request.json").read_text())["arguments"] for job in (here, there)
    ]
    assert {key: value for key, value in arguments[0].items() if key != "split"} == {
        key: value for key, value in arguments[1].items() if key != "split"
    }
