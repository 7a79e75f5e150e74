"""What a user can get wrong: one line that names it, exit code 2, and no output left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coopseg.scans.nifti import read_labels, write_image

TINY = ("--preset=cpu", "--device=cpu", "--set=cases.size=[32,32]", "--set=cases.spacing=6")


@pytest.fixture
def fails(coopseg: Callable[..., Any], tmp_path: Path) -> Callable[..., None]:
    """Runs the program with --out OUT and checks how it ends; `parts` are in its one line."""

    def check(*words: Any, parts: tuple[Any, ...], notes: int = 0) -> None:
        out = tmp_path / "new" / "out"
        result = coopseg(*words, "--out", out)
        lines = result.stderr.splitlines()
        assert result.exit_code == 2, result.exception
        assert len(lines) == notes + 1
        assert lines[-1].startswith("error: ")
        for part in parts:
            assert str(part) in lines[-1]
        assert result.stdout == ""
        assert not out.parent.exists()

    return check


@pytest.fixture
def data(phantom: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the ACDC phantom to spoil."""
    return Path(shutil.copytree(phantom["acdc"], tmp_path / "data"))


def label_of(data: Path) -> Path:
    return next((data / "patientP001").glob("*frame01_gt.nii.gz"))


def test_train_without_a_label(fails: Callable[..., None], data: Path) -> None:
    for label in data.glob("*/*frame01_gt.nii.gz"):
        label.unlink()
    fails("train", "--data", data, *TINY, parts=(data, "frame01.nii.gz", "no label"), notes=1)


def test_train_with_a_label_of_another_shape(fails: Callable[..., None], data: Path) -> None:
    for path in data.glob("*/*frame01_gt.nii.gz"):
        label = read_labels(path)
        write_image(path, label.data[:-1], affine=label.affine, dtype=np.uint8)
    fails("train", "--data", data, *TINY, parts=(data, "_gt.nii.gz", "shape (95, ", "(96, "), notes=1)


def test_train_with_an_unnamed_label_value(fails: Callable[..., None], data: Path) -> None:
    for path in data.glob("*/*frame01_gt.nii.gz"):
        label = read_labels(path)
        write_image(path, np.where(label.data == 3, 7, label.data), affine=label.affine, dtype=np.uint8)
    fails("train", "--data", data, *TINY, parts=(data, "label value 7 has no name"), notes=1)


def test_train_on_a_damaged_file(fails: Callable[..., None], data: Path) -> None:
    for path in data.glob("*/*frame01.nii.gz"):
        path.write_bytes(path.read_bytes()[:-100])
    fails("train", "--data", data, *TINY, parts=(data, "frame01.nii.gz", "truncated"), notes=1)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--set", "training.step=5"], ["'training.step'", "did you mean 'training.steps'"]),
        (["--set", "training.steps"], ["'training.steps'", "section.key=value"]),
        (["--set", "training.steps=many"], ["training.steps", "'many'"]),
        (["--preset", "cpus"], ["unknown preset 'cpus'", "did you mean 'cpu'"]),
        (["--method", "cooperativ"], ["unknown method", "did you mean 'cooperative'"]),
        (["--split", "acdc-10-D"], ["acdc-10-D: no such split", "acdc-10-A"]),
        (["--split", "acdc-10-A"], ["no such patients: patient001", "acdc-10-A"]),
        (["--layout", "bids"], ['layout "bids"', "acdc, mnms"]),
        (["--labels", "LV:1"], ["LV:1", "LV=1,MYO=2,RV=3"]),
    ],
)
def test_train_with_a_wrong_word(
    fails: Callable[..., None], phantom: dict[str, Path], words: list[str], parts: list[str]
) -> None:
    fails("train", "--data", phantom["acdc"], *words, parts=tuple(parts), notes=1)


def test_data_that_are_not_there(fails: Callable[..., None], trained: Path, tmp_path: Path) -> None:
    empty, absent = tmp_path / "empty", tmp_path / "absent"
    empty.mkdir()
    fails("train", "--data", absent, parts=(absent, "no such folder"), notes=1)
    fails("train", "--data", empty, parts=(empty, "no data set recognised"), notes=1)
    fails("corrupt", "--data", empty, parts=(empty, "no data set recognised"))
    fails("evaluate", "--model", trained, "--data", empty, parts=(empty, "no data set recognised"))
    fails("predict", "--model", trained, empty, parts=(empty, "no scan found; looked for DICOM, and"))


def test_an_output_folder_in_use(
    coopseg: Callable[..., Any], trained: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    scan = phantom["acdc"] / "patientP001" / "patientP001_frame01.nii.gz"
    for words in (
        ("train", "--data", phantom["acdc"], *TINY),
        ("predict", "--model", trained, scan),
        ("corrupt", "--data", phantom["acdc"]),
        ("evaluate", "--model", trained, "--data", phantom["acdc"]),
    ):
        result = coopseg(*words, "--out", tmp_path)
        assert result.exit_code == 2
        assert str(tmp_path) in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_a_wrong_model(
    fails: Callable[..., None], trained: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    scan = phantom["acdc"] / "patientP001" / "patientP001_frame01.nii.gz"
    fails("predict", "--model", phantom["acdc"], scan, parts=(phantom["acdc"], "holds no last.safetensors"))
    fails("predict", "--model", tmp_path / "no", scan, parts=(tmp_path / "no", "does not exist"))
    spoiled = tmp_path / "spoiled.safetensors"
    content = bytearray((trained / "last.safetensors").read_bytes())
    content[-1] ^= 1
    spoiled.write_bytes(content)
    fails("predict", "--model", spoiled, scan, parts=(spoiled, "damaged"))
    fails("evaluate", "--model", spoiled, "--data", phantom["acdc"], parts=(spoiled, "damaged"))


def test_one_bad_scan_among_good_ones(
    coopseg: Callable[..., Any], fails: Callable[..., None], trained: Path, data: Path, tmp_path: Path
) -> None:
    """Alone it is refused; among others it is named, the others are done, and a second call does it alone."""
    bad = data / "patientP006" / "patientP006_frame01.nii.gz"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-100])
    fails("predict", "--model", trained, bad, parts=(bad, "truncated"))
    words = ("predict", "--model", trained, data, "--out", tmp_path / "out", "--device=cpu")
    result = coopseg(*words)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.exit_code == 1
    assert str(bad) in lines[0]
    assert "truncated" in lines[0]
    assert "1 of 12 scans failed" in lines[1]
    assert len(lines) == 2
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 11
    assert coopseg(*words).exit_code == 2  # what is there is not written over
    bad.write_bytes(whole)
    again = coopseg(*words, "--resume")
    assert again.exit_code == 0, again.stderr
    assert "11 scans done before, not done again" in again.stderr
    assert again.stderr.count(" of 12: ") == 1
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 12
    other = coopseg(*words, "--resume", "--refine=0")
    assert other.exit_code == 2
    assert "holds results of a command with refinements = 1, this one has" in other.stderr


def test_choices_of_patients(fails: Callable[..., None], phantom: dict[str, Path], trained: Path) -> None:
    data = ("--data", phantom["acdc"])
    fails("corrupt", *data, "--patients", "patientP001,nobody", parts=(phantom["acdc"], "nobody"))
    fails("corrupt", *data, "--patients=a", "--split=b", parts=("--patients and --split",))
    fails("corrupt", *data, "--kinds=RandBlur,all", parts=("unknown corruption 'all'", "test, choice"))
    fails("corrupt", *data, "--split", "random", parts=("--split random", "run folder"))
    fails("corrupt", *data, "--split", phantom["acdc"], parts=("run.json", "no such file"))
    fails("corrupt", *data, "--set", "training.steps=1", parts=("training.steps=1", "only settings of cases"))
    fails("evaluate", "--model", trained, *data, "--split", "nil", parts=("nil: no such split",))
    fails("evaluate", "--model", trained, *data, *data, parts=("two data sets are called 'ACDC'",))
