"""Patients by name and by the part of a split, published, from a file or of a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coopseg.cases.select import find_split, select_part, select_patients
from coopseg.cases.splits import NAMED, Split
from coopseg.errors import CoopsegError
from coopseg.scans.types import Dataset, Labels, ScanRef

LABELS = Labels(("background",), (0,))
SPLIT = {"name": "random-3", "train": ["a"], "validate": ["b"], "test": ["c", "d"]}


def dataset(*patients: str) -> Dataset:
    items = tuple(ScanRef(name, Path(f"{name}_{k}.nii"), phase=str(k)) for name in patients for k in (0, 1))
    return Dataset("toy", Path("toy"), "folder", LABELS, items)


def test_a_split_by_name_by_file_and_of_a_run(tmp_path: Path) -> None:
    assert find_split("acdc-10-A") == Split("acdc-10-A", *NAMED["acdc-10-A"])
    (tmp_path / "run.json").write_text(json.dumps({"split": SPLIT}))
    assert find_split(tmp_path) == Split("random-3", ("a",), ("b",), ("c", "d"))
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"train": ["a"], "validate": ["b"], "test": ["c"]}))
    assert find_split(file).test == ("c",)


@pytest.mark.parametrize("content", [None, "{", "{}", '{"split": {"name": "x"}}'])
def test_a_folder_that_is_no_run(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(CoopsegError, match=r"run\.json: .*folder of a finished training"):
        find_split(tmp_path)


def test_parts() -> None:
    split = Split("s", ("a",), ("b",), ("c", "d"))
    assert select_part(dataset("a", "b", "c", "d", "e"), split, "test").patients == ("c", "d")
    assert len(select_part(dataset("d", "c"), split, "test").items) == 4  # copies of the test part alone
    other = dataset("x", "y")
    assert select_part(other, split, "test") is other
    with pytest.raises(CoopsegError, match=r"lacks 1 of 2 test patients \(d\)"):
        select_part(dataset("a", "c"), split, "test")


def test_patients_by_name() -> None:
    assert select_patients(dataset("a", "b", "c"), ["c", "a"]).patients == ("a", "c")
    with pytest.raises(CoopsegError, match="toy: no such patients: z"):
        select_patients(dataset("a"), ["a", "z"])
