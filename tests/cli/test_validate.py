"""`validate`: a table, JSON and exit codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coopseg.checks.rules import RULES, Finding
from coopseg.checks.validate import validate_dataset


@pytest.fixture
def faulty(phantom: dict[str, Path], tmp_path: Path) -> Path:
    """An ACDC phantom with an error in patientP001 and a missing label in patientP002."""
    data = Path(shutil.copytree(phantom["acdc"], tmp_path / "data"))
    scan = data / "patientP001" / "patientP001_frame01.nii.gz"
    scan.write_bytes(scan.read_bytes()[:-100])
    (data / "patientP002" / "patientP002_frame01_gt.nii.gz").unlink()
    return data


def test_errors_end_with_1(coopseg: Callable[..., Any], faulty: Path) -> None:
    result = coopseg("validate", faulty)
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0].split()[:2] == ["severity", "rule"]
    assert " ".join(lines[1:3]).split()[:4] == [  # a narrow terminal folds the line
        "error",
        "truncated",
        "patientP001/patientP001_frame01.nii.gz",
        "(patientP001_ED)",
    ]
    assert lines[-1].startswith("2 errors, ")
    assert lines[-1].endswith("in 6 patients, 12 volumes")
    assert "label-missing" in result.stdout
    assert "\x1b" not in result.stdout
    assert all(len(line) <= 120 for line in lines)
    assert result.stderr == "validated: 12 of 12, patientP006_ES\n"


def test_json_holds_the_same(coopseg: Callable[..., Any], faulty: Path) -> None:
    result = coopseg("validate", faulty, "--json")
    content = json.loads(result.stdout)
    assert result.exit_code == 1
    assert content == validate_dataset(faulty).as_dict()
    assert [Finding(**entry).rule for entry in content["findings"]][:2] == ["truncated", "label-missing"]
    assert (content["data"], content["layout"], content["errors"]) == (str(faulty), "acdc", 2)


def test_nothing_wrong_ends_with_0(
    coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path: Path
) -> None:
    split = tmp_path / "split.json"
    split.write_text('{"train": ["patientP001"], "validate": ["patientP002"]}')
    for words in ((), ("--split", split), ("--split", split, "--split", "random")):
        result = coopseg("validate", phantom["acdc"], *words)
        assert result.exit_code == 0
        assert "0 errors, " in result.stdout.splitlines()[-1]


def test_warnings_end_with_0(coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path: Path) -> None:
    for file in ("frame01", "frame01_gt"):
        source = phantom["acdc"] / "patientP001" / f"patientP001_{file}.nii.gz"
        shutil.copy(source, tmp_path / f"p_{file}.nii.gz".replace("_frame01", ""))
    result = coopseg("validate", tmp_path)
    assert result.exit_code == 0
    assert "names-missing" in result.stdout
    assert "0 errors, 1 warning in 1 patient, 1 volume" in result.stdout
    named = coopseg("validate", tmp_path, "--labels", "RV=1,MYO=2,LV=3")
    crop, last = named.stdout.splitlines()
    assert crop.startswith("the crop of 192 x 192 pixels of 1.36719 mm cuts up to 0.1% of a class; ")
    assert last == "nothing wrong: 0 errors, 0 warnings in 1 patient, 1 volume"
    small = coopseg("validate", tmp_path, "--set", "cases.size=[32, 32]", "--labels", "RV=1,MYO=2,LV=3")
    assert small.exit_code == 0
    assert "crop-cuts" in small.stdout
    words = ("--adapt", "--set", "cases.spacing=2", "--labels", "RV=1,MYO=2,LV=3")
    adapted, crop, last = coopseg("validate", tmp_path, *words).stdout.splitlines()
    assert adapted.startswith("adapted to 1 scan of 1 patient (no Hounsfield units): cases.size=[")
    assert "pixels of 2 mm cuts up to 0.1% of a class" in crop


def test_a_split_with_faults(coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text('{"train": ["patientP001", "patientP002"], "validate": ["patientP002", "nobody"]}')
    result = coopseg("validate", phantom["acdc"], "--split", split)
    assert result.exit_code == 1
    assert "patientP002 is in train and in validate" in result.stdout
    assert "nobody" in result.stdout


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("none",), "none: no such folder"),
        ((".", "--layout", "bids"), 'layout "bids"'),
        ((".", "--labels", "LV"), "LV=1,MYO=2,RV=3"),
        ((".", "--workers", "0"), "--workers"),
        ((), "Missing argument"),
    ],
)
def test_misuse_ends_with_2(
    coopseg: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = coopseg("validate", *words)
    assert result.exit_code == 2
    assert part in result.stderr
    assert result.stdout == ""


def test_an_empty_folder_is_a_finding(coopseg: Callable[..., Any], tmp_path: Path) -> None:
    result = coopseg("validate", tmp_path)
    assert result.exit_code == 1
    assert "no data set recognised" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 error, 0 warnings in 0 patients, 0 volumes"


def test_all_rules_are_listed(coopseg: Callable[..., Any]) -> None:
    result = coopseg("validate", "--rules")
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines() if line[0] != " "][1:] == [
        [rule.severity, rule.name] for rule in RULES.values()
    ]
    text = " ".join(result.stdout.split())
    for rule in RULES.values():
        assert f"{rule.means}: {rule.why} {rule.do}" in text
