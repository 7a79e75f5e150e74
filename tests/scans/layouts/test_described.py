"""One broken entry hides no other, in any layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.layouts import LAYOUTS, open_dataset
from coopseg.scans.layouts.found import keep

LABELS = {"background": 0, "LV": 1}


def scan(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones((4, 4, 2), np.uint8), np.diag([1, 1, 5, 1])), path)


def acdc(root: Path) -> None:
    for patient in ("patient001", "patient002"):
        scan(root / patient / f"{patient}_frame01.nii.gz")
        scan(root / patient / f"{patient}_frame09.nii.gz")
        (root / patient / "Info.cfg").write_text("ED: 1\nES: 9\n")
    (root / "patient001" / "Info.cfg").write_text("ED: 1\nES: ?\n")
    (root / "patient002" / "patient002_frame01.nii.gz").unlink()


def mnms(root: Path) -> None:
    for code in ("A1", "B1"):
        scan(root / "Training/Labeled" / code / f"{code}_sa.nii.gz")
    rows = "A1,Siemens,A,1,0,\nB1,Siemens,A,1,?,0\n"
    (root / "t.csv").write_text(f"External code,VendorName,Vendor,Centre,ED,ES\n{rows}")


def nnunet(root: Path) -> None:
    for name in ("a_0000", "b_0000", "b_0001", "c"):
        scan(root / f"imagesTr/{name}.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"labels": LABELS}))


def decathlon(root: Path) -> None:
    for name in ("a", "b"):
        scan(root / f"imagesTr/{name}.nii.gz")
    training = [7, *({"image": f"imagesTr/{name}.nii.gz"} for name in ("a", "none", "b"))]
    (root / "dataset.json").write_text(json.dumps({"labels": LABELS, "training": training}))


def folder(root: Path) -> None:
    for name in ("images/a", "images/b", "labels/c", "labels/d"):
        scan(root / f"{name}.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"labels": LABELS}))


BROKEN: dict[str, tuple[Callable[[Path], None], list[str], list[str]]] = {
    "acdc": (acdc, ["patient001_ED", "patient002_ES"], ["Info.cfg", "patient002_frame01.nii.gz"]),
    "mnms": (mnms, ["A1_ED", "B1_ES"], ["column ES of A1", "column ED of B1"]),
    "nnunet": (nnunet, ["a"], ["c.nii.gz", "b_0001.nii.gz"]),
    "decathlon": (decathlon, ["a", "b"], ["entry 7", "none.nii.gz"]),
    "folder": (folder, ["a", "b"], ["c.nii.gz", "d.nii.gz"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_other_volumes_are_listed(tmp_path: Path, layout: str) -> None:
    make, volumes, parts = BROKEN[layout]
    make(tmp_path)
    with pytest.raises(CoopsegError, match=parts[0]):
        open_dataset(tmp_path)
    problems: list[CoopsegError] = []
    dataset = open_dataset(tmp_path, problems=problems)
    assert (dataset.layout, [item.id for item in dataset.items]) == (layout, volumes)
    assert len(problems) == len(parts)
    for problem, part in zip(problems, parts, strict=True):
        assert part in str(problem)


@pytest.mark.parametrize("labels", [{"LV": 1.5}, None])
def test_names_that_are_not_there_or_wrong_are_none(tmp_path: Path, labels: object) -> None:
    scan(tmp_path / "a.nii.gz")
    (tmp_path / "a_gt.nii.gz").write_bytes(b"never read")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels} if labels else {}))
    problems: list[CoopsegError] = []
    assert open_dataset(tmp_path, problems=problems).labels.names == ("background",)
    assert len(problems) == (labels is not None)


def test_keep_is_for_our_own_errors() -> None:
    problems: list[CoopsegError] = []
    with keep(problems):
        raise CoopsegError("kept")
    assert [str(problem) for problem in problems] == ["kept"]
    with pytest.raises(CoopsegError, match="raised"), keep(None):
        raise CoopsegError("raised")
    with pytest.raises(ZeroDivisionError), keep(problems):
        raise ZeroDivisionError
