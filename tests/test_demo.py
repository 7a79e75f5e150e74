"""The demo at a tiny size: every stage, one course from beginning to end, and a report of both methods."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coopseg import demo
from coopseg.cli.info import _say_study
from coopseg.demo import METHODS, Course, run_demo
from coopseg.errors import CoopsegError
from coopseg.phantom.dicom import write_dicom_phantom


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo of seconds; pictures of an evaluation, half of the time, have tests of their own."""
    monkeypatch.setattr("coopseg.evaluation.run.write_pictures", lambda *args, **options: None)
    monkeypatch.setattr(demo, "CASES", {"cases.size": [32, 32], "cases.spacing": 6.0})
    monkeypatch.setattr(demo, "SMALL", {"network.width": 2, "training.steps": 2, "training.validations": 1})
    monkeypatch.setattr("coopseg.workers.cores", lambda: 1)
    monkeypatch.setitem(write_dicom_phantom.__kwdefaults__, "times", 3)  # type: ignore[arg-type]
    for name, value in {"TRAIN": 2, "VALIDATE": 2, "TEST": 1, "CROSS": 3, "COLUMNS": 48}.items():
        monkeypatch.setattr(demo, name, value)


@pytest.mark.slow
def test_a_demo_with_two_seeds_without_dicom(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "has_dicom", lambda: False)
    seen: list[Any] = []
    page = run_demo(tmp_path / "demo", seeds=2, progress=seen.append)
    content = json.loads((page.parent / "report.json").read_text())
    runs = sorted(path.name for path in (tmp_path / "demo" / "runs").iterdir())
    assert runs == sorted(f"{method}-{seed}" for method in METHODS for seed in (0, 1))
    seeds = {row["name"]: len(row["seeds"]) for row in content["results"]["rows"]}
    assert seeds == dict.fromkeys(METHODS, 2)
    shares = [progress.share for progress in seen]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] < 1
    assert all(progress.left >= 0 for progress in seen)
    assert {progress.event.kind for progress in seen if progress.event} == {"start", "train", "validation"}
    records = [tmp_path / "demo" / "runs" / run / "run.json" for run in runs]
    splits = [json.loads(record.read_text())["split"] for record in records]
    assert all(split == splits[0] for split in splits)
    assert not set(splits[0]["train"]) & set(splits[0]["test"])
    assert not (tmp_path / "demo" / "study").exists()


@pytest.mark.slow
def test_it_ends_in_dicom(tiny: None, coopseg: Callable[..., Any], tmp_path: Path) -> None:
    """The command that is printed makes the same label maps."""
    done = coopseg("demo", tmp_path / "demo")
    assert done.exit_code == 0, done.stderr
    results = tmp_path / "demo" / "study-results"
    assert {"PHANTOM.html", "measures.csv", "PHANTOM.nii.gz"} <= {path.name for path in results.iterdir()}
    assert len(list((results / "dicom").glob("PHANTOM_seg_*.dcm"))) == 3
    opened, numbers, command = done.stdout.splitlines()[-3:]
    assert opened.endswith(str(results / "PHANTOM.html"))
    assert str(results / "measures.csv") in numbers
    (line,) = csv.DictReader((results / "measures.csv").read_text().splitlines())
    assert (line["patient"], line["phases"]) == ("PHANTOM", "3")
    program, *words = shlex.split(command)
    assert program == "coopseg"
    again = coopseg(*words)
    assert again.exit_code == 0, again.stderr
    first, second = (tmp_path / "demo" / name / "PHANTOM.nii.gz" for name in ("study-results", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_without_the_extra_a_line_says_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _say_study(tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("left out: ")
    assert said.endswith('; pip install "coopseg[dicom]" adds it\n')
    assert said.count("\n") == 1


def test_the_time_left_follows_the_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    seen: list[Any] = []
    monkeypatch.setattr("coopseg.demo.time.monotonic", lambda: now[0])
    course = Course([10, 30], seen.append)
    with course.stage("first"):
        now[0] += 20
        course.tell(1.0)
    with course.stage("second"):
        now[0] += 30
        course.tell(0.5)
    assert [(progress.text, progress.share, progress.left) for progress in seen] == [
        ("first", 0.0, 40.0),  # nothing is known yet but the sum of the costs
        ("first", 0.25, 60.0),
        ("second", 0.25, 60.0),
        ("second", 0.625, 30.0),
    ]


def test_a_used_folder_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(CoopsegError, match="not an empty folder"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
