"""Splits against a data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coopseg.cases.splits import NAMED
from coopseg.checks.splits import check_split, open_split
from coopseg.errors import CoopsegError
from coopseg.scans.types import Dataset, Labels, ScanRef


def dataset(*patients: str) -> Dataset:
    items = tuple(ScanRef(patient, Path(f"/data/{patient}.nii")) for patient in patients)
    return Dataset("d", Path("/data"), "folder", Labels(("background",), (0,)), items)


def check(name: str, data: Dataset) -> list[tuple[str, str]]:
    parts, broken = open_split(name, data)
    findings = broken if parts is None else list(check_split(name, parts, data))
    assert all(finding.file == name for finding in findings)
    return [(finding.rule, finding.found) for finding in findings]


def test_every_fault_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"train": ["a", "b", "c"], "validate": [], "test": ["b", "c", "x"]}))
    assert check(str(file), dataset("a", "b", "c")) == [
        ("split-overlap", "b is in train and in test"),
        ("split-overlap", "c is in train and in test"),
        ("split-empty", "no validate patients"),
        ("split-unknown", "1 of 3 test patients are not there: x"),
    ]


def test_a_split_without_test_patients_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("{train: [a], validate: [b]}")
    assert check(str(file), dataset("a", "b")) == []


@pytest.mark.parametrize("text", ["[", '{"train": ["a"]}', '{"train": "a", "validate": ["b"]}'])
def test_a_file_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.json"
    file.write_text(text)
    assert [rule for rule, _ in check(str(file), dataset("a", "b"))] == ["split"]


def test_random() -> None:
    assert check("random", dataset("a", "b", "c")) == []
    assert check("random", dataset("a", "b")) == [("split", "2 patients are too few for a random split")]


def test_published_splits() -> None:
    train, validate, test = NAMED["acdc-10-A"]
    assert check("acdc-10-A", dataset(*train, *validate, *test)) == []
    found = check("acdc-10-A", dataset(*train[1:], *validate, *test[:5]))
    assert [(rule, text.split(":")[0]) for rule, text in found] == [
        ("split-unknown", "1 of 10 train patients are not there"),
        ("split-untested", "15 of 20 test patients are not there"),
    ]


def test_a_run_folder_stands_for_its_split(tmp_path: Path) -> None:
    entry = {"name": "mine", "train": ["a"], "validate": ["b"], "test": ["x"]}
    (tmp_path / "run.json").write_text(json.dumps({"split": entry}))
    found = check(str(tmp_path), dataset("a", "b"))
    assert found == [("split-unknown", "1 of 1 test patients are not there: x")]


def test_what_is_no_split_is_refused(tmp_path: Path) -> None:
    for name in ("acdc-11", str(tmp_path)):
        with pytest.raises(CoopsegError):
            open_split(name, dataset("a"))
