"""A job in a process of its own: stopped it goes on from its checkpoint; two never work at once."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_grid import TINY

from coopseg.benchmark import data, job
from coopseg.benchmark.collect import collect
from coopseg.benchmark.data import corrupt_tested, open_data
from coopseg.benchmark.grid import make_jobs
from coopseg.benchmark.request import Request, ask, write_request
from coopseg.evaluation.corrupt import corrupt_dataset

pytestmark = pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage`:DeprecationWarning")


def make_bench(bench: Path, folder: Path, *rows: str, **settings: Any) -> Request:
    """A benchmark of one job, standard---0, or of one of each of `rows`, that has not begun."""
    given = TINY | {"settings": TINY["settings"] | settings}
    request = ask(data=folder, methods=rows or ["standard"], **given)
    write_request(bench, request)
    for each in make_jobs(request):
        each.write(bench)
    return request


def wait_for(ready: Callable[[], object], seconds: float = 180.0) -> None:
    """Until something is so."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begin(bench: Path) -> subprocess.Popen[bytes]:
    """The job in a process of its own, which has to be waited for."""
    command = [sys.executable, "-m", "coopseg.benchmark.job", str(bench), "standard---0"]
    with open(bench / "jobs" / "standard---0" / "log.txt", "ab") as log:
        env = os.environ | {"OMP_NUM_THREADS": "1"}  # more would wait for one another beside other tests
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "its starter dies"])
def test_stopped_it_goes_on_from_its_checkpoint(phantom: dict[str, Path], tmp_path: Path, how: str) -> None:
    request = make_bench(tmp_path, phantom["acdc"], **{"training.steps": 150})
    corrupt_tested(tmp_path, open_data(request))
    folder = tmp_path / "jobs" / "standard---0"
    with begin(tmp_path) as process:
        wait_for(lambda: "step 20 of" in (folder / "log.txt").read_text())
        if how == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            assert process.stdin
            process.stdin.close()
        assert process.wait() == 143
    assert (folder / "training" / "checkpoint.pt").is_file()
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "job.json", "log.txt", "training"]
    assert job.main(tmp_path, "standard---0") == 0
    log = [json.loads(line) for line in (folder / "training" / "log.jsonl").read_text().splitlines()]
    first, second = [entry["step"] for entry in log if entry["kind"] == "start"]
    assert first == 0
    assert 20 <= second < 150
    result = json.loads((folder / "result.json").read_text())
    assert result["steps"] == 150
    assert result["seconds"] > result["training_seconds"] > 0


def test_a_failure_is_one_line_in_its_folder(tmp_path: Path) -> None:
    make_bench(tmp_path, tmp_path / "no data")
    folder = tmp_path / "jobs" / "standard---0"
    (folder / "log.txt").write_text("".join(f"line {number}\n" for number in range(30)))
    assert job.main(tmp_path, "standard---0") == 1
    error = json.loads((folder / "error.json").read_text())
    assert error["error"].startswith(f"{tmp_path / 'no data'}: no such folder")
    assert error["kind"] == "CoopsegError"
    assert error["log"].splitlines() == [f"line {number}" for number in range(10, 30)]


def test_it_waits_for_another_process_and_finds_the_work_done(
    phantom: dict[str, Path], tmp_path: Path
) -> None:
    make_bench(tmp_path, phantom["acdc"])
    folder = tmp_path / "jobs" / "standard---0"
    lock = open(folder / ".lock", "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)
    with begin(tmp_path) as process:
        wait_for(lambda: "works in it; waiting" in (folder / "log.txt").read_text())
        (folder / "result.json").write_text("{}")
        lock.close()
        assert process.wait() == 0
    assert not (folder / "training").exists()


def test_scan_statistics_predict_anew_with_the_weights_that_are_there(
    phantom: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "corrupt_dataset", partial(corrupt_dataset, workers=1))
    request = make_bench(tmp_path, phantom["acdc"], "standard", "standard@2")
    corrupt_tested(tmp_path, open_data(request))
    for name in ("standard---0", "standard@2---0"):
        assert job.main(tmp_path, name) == 0
    plain, mixed = (
        json.loads((tmp_path / "jobs" / name / "evaluation" / "evaluation.json").read_text())
        for name in ("standard---0", "standard@2---0")
    )
    assert (plain["scan_statistics"], mixed["scan_statistics"]) == (None, 2)
    assert plain["model"]["sha256"] == mixed["model"]["sha256"]
    assert not (tmp_path / "jobs" / "standard@2---0" / "training").exists()
    trained = collect(tmp_path).study.trained
    assert {one.row for one in trained if len(one.scores)} == {"standard", "standard@2"}


def test_test_patients_that_join_later_are_corrupted_too(
    phantom: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "corrupt_dataset", partial(corrupt_dataset, workers=1))
    request = make_bench(tmp_path, phantom["acdc"])
    corrupt_tested(tmp_path, open_data(request))
    images = {path: path.read_bytes() for path in (tmp_path / "corrupted").rglob("*_copy1.nii.gz")}
    times = {path: path.stat().st_mtime_ns for path in images}
    corrupt_tested(tmp_path, open_data(request))
    assert {path: path.stat().st_mtime_ns for path in images} == times  # nothing was done again
    more = request.extended(draws=["1"])
    corrupt_tested(tmp_path, open_data(more))
    later = {path: path.read_bytes() for path in (tmp_path / "corrupted").rglob("*_copy1.nii.gz")}
    assert len(later) == 2 * len(images)
    assert {path: later[path] for path in images} == images
