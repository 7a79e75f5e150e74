"""A job begins where it finds what it needs; else one line says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from coopseg.benchmark.grid import Job
from coopseg.benchmark.schedule import lacking

STANDARD = Job("s", "standard", "train", "A", 0)
POST_DAE = Job("p", "post-dae", "post-dae", "A", 0, needs=("s",))
STATISTICS = Job("s@1", "standard@1", "statistics", "A", 0, needs=("s",))
TIMED = Job("t", "standard", "train", "A", 0, "time", needs=("s",))


def make(bench: Path, job: Job, *files: str) -> None:
    for name in files:
        path = job.folder(bench) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_job_that_has_not_begun_needs_nothing(tmp_path: Path) -> None:
    assert lacking(tmp_path, STANDARD) == ""
    make(tmp_path, STANDARD, "training/run.json")
    assert lacking(tmp_path, STANDARD) == ""


@pytest.mark.parametrize("job", [POST_DAE, STATISTICS, TIMED])
def test_others_have_to_be_finished(tmp_path: Path, job: Job) -> None:
    assert lacking(tmp_path, job) == "needs s, which failed"
    make(tmp_path, STANDARD, "result.json", "training/best-whatever.safetensors")
    assert lacking(tmp_path, job) == ""


def test_only_some_need_weights_too(tmp_path: Path) -> None:
    make(tmp_path, STANDARD, "result.json", "training/run.json")
    assert lacking(tmp_path, TIMED) == ""
    for job in (POST_DAE, STATISTICS):
        assert lacking(tmp_path, job).startswith("needs the weights of s, which were not kept; remove ")


def test_severities_added_to_a_finished_job_need_its_weights(tmp_path: Path) -> None:
    predictor = Job("x", "x", "predictor", "-", 0)
    for job in (STANDARD, POST_DAE, STATISTICS, predictor):
        make(tmp_path, job, "result.json")
    for job in (STANDARD, POST_DAE):
        folder = job.folder(tmp_path)
        assert lacking(tmp_path, job).startswith(f"its weights were not kept; remove {folder} to have")
    assert "needs the weights of s, " in lacking(tmp_path, STATISTICS)  # it has none of its own
    assert lacking(tmp_path, predictor) == ""
    for job in (STANDARD, POST_DAE):
        make(tmp_path, job, "training/last.safetensors")
        assert lacking(tmp_path, job) == ""
    assert lacking(tmp_path, STATISTICS) == ""
