"""A job begins where it finds what it needs; else one line says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from coopseg.benchmark.grid import Job
from coopseg.benchmark.needs import lacking

STANDARD = Job("s", "standard", "train", "A", 0)
POST_DAE = Job("p", "post-dae", "post-dae", "A", 0, needs=("s",))
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


@pytest.mark.parametrize("job", [POST_DAE, TIMED])
def test_others_have_to_be_finished(tmp_path: Path, job: Job) -> None:
    assert lacking(tmp_path, job) == "needs s, which failed"
    make(tmp_path, STANDARD, "result.json", "training/best-whatever.safetensors")
    assert lacking(tmp_path, job) == ""


def test_only_some_need_weights_too(tmp_path: Path) -> None:
    make(tmp_path, STANDARD, "result.json", "training/run.json")
    assert lacking(tmp_path, TIMED) == ""
    assert lacking(tmp_path, POST_DAE).startswith("needs the weights of s, which were not kept; remove ")


def test_severities_added_to_a_finished_job_need_its_weights(tmp_path: Path) -> None:
    predictor = Job("x", "x", "predictor", "-", 0)
    for job in (STANDARD, predictor):
        make(tmp_path, job, "result.json")
    assert "no severity can be added; remove" in lacking(tmp_path, STANDARD)
    assert lacking(tmp_path, predictor) == ""
    make(tmp_path, STANDARD, "training/best.safetensors")
    assert lacking(tmp_path, STANDARD) == ""
