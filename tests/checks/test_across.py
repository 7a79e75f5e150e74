"""Faults that show when volumes are compared, with each other and with a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from coopseg.cases.splits import NAMED
from coopseg.checks.across import check_across, check_split, merge_shared, open_split
from coopseg.checks.rules import Fault
from coopseg.checks.volumes import Volume
from coopseg.errors import CoopsegError
from coopseg.scans.types import Dataset, Labels, ScanRef

ROOT = Path("/data")
HEART = Labels(("background", "LV", "RV"), (0, 1, 3))
UNNAMED = Labels(("background",), (0,))
ALL = frozenset({0, 1, 3})


def turned(degrees: float) -> np.ndarray:
    return Rotation.from_euler("x", degrees, degrees=True).as_matrix()[:, 2]


def volume(
    patient: str, phase: str = "", *, print_: str = "", degrees: float = 0, values: Any = ALL
) -> Volume:
    name = f"{patient}_{phase}"
    ref = ScanRef(patient, ROOT / f"{name}.nii", ROOT / f"{name}_gt.nii", phase)
    return Volume(ref, turned(degrees), print_ or name, values)


def check(*volumes: Volume, labels: Labels = HEART) -> list[tuple[str, str, str]]:
    dataset = Dataset("d", ROOT, "folder", labels, tuple(item.ref for item in volumes))
    return [(f.rule, f.case, f.found) for f in check_across(dataset, volumes, used=None)]


def test_copies_name_the_first() -> None:
    assert check(
        volume("a", "ED", print_="1"),
        volume("a", "ES", print_="1"),
        volume("b", "ED", print_="1"),
        volume("b", "ES", print_="2"),
    ) == [
        ("repeated-image", "a_ES", "the same voxels as a_ED (a_ED.nii)"),
        ("identical-images", "b_ED", "the same voxels as a_ED (a_ED.nii)"),
    ]


def test_volumes_that_could_not_be_read_are_no_copies() -> None:
    broken = [Volume(volume(patient).ref, None, "", None) for patient in "abcde"]
    assert check(*broken) == []


@pytest.mark.parametrize(("degrees", "odd"), [(44, 0), (46, 1), (90, 1), (135, 0), (134, 1), (180, 0)])
def test_facing_away_from_the_others(degrees: float, odd: int) -> None:
    """Which way round a stack is stored says nothing; 44 degrees from 20 straight ones are hardly less."""
    others = [volume(f"p{number}") for number in range(200)]
    found = check(*others, volume("odd", degrees=degrees))
    assert [(rule, case) for rule, case, _ in found] == [("orientation", "odd")] * odd


def test_without_a_common_direction_none_is_odd() -> None:
    for angles in ((0, 60, 120, 1, 61, 121), (0, 1, 90)):  # the second are too few
        assert check(*(volume(f"p{angle}x", degrees=angle) for angle in angles)) == []
    assert check(*(volume(f"p{angle}", degrees=angle) for angle in (0, 1, 2, 3, 90))) != []


def test_classes() -> None:
    full, part = volume("a"), volume("b", values=frozenset({0, 1}))
    assert check(full, part) == [("class-absent", "b", "no voxel of RV")]
    assert check(part) == [("class-missing", "", "no label map holds RV (3)")]
    empty = volume("c", values=frozenset({0}))
    assert check(full, empty) == []  # reported as label-empty, and once is enough


def test_classes_without_names() -> None:
    found = check(volume("a"), volume("b", values=frozenset({0, 1})), labels=UNNAMED)
    assert found == [
        ("names-missing", "", "the label values 1, 3 have no names"),
        ("class-absent", "b", "no voxel of label3"),
    ]
    many = volume("c", values=frozenset(range(1000)))
    assert [rule for rule, *_ in check(volume("a"), many, labels=UNNAMED)] == ["names-missing"]


def test_shared_faults_are_merged_where_every_file_has_them() -> None:
    files = [f"{name}.nii" for name in "abcd"]
    shared = [Fault("shear", "bent").at(file) for file in files]
    own = [Fault("shear", f"bent {file}").at(file) for file in files]
    (merged,) = merge_shared(shared, 4)
    assert (merged.rule, merged.file, merged.found) == ("shear", "", "all 4 files: bent")
    assert list(merge_shared(shared, 5)) == shared
    assert list(merge_shared(own, 4)) == own
    twice = [
        Fault("constant-slice", "1 of 4").at(file, phase) for file in files[:2] for phase in ("ED", "ES")
    ]
    assert list(merge_shared(twice, 4)) == twice  # two files of two frames are not four files


def dataset(*patients: str) -> Dataset:
    items = tuple(ScanRef(patient, Path(f"/data/{patient}.nii")) for patient in patients)
    return Dataset("d", Path("/data"), "folder", Labels(("background",), (0,)), items)


def check_parts(name: str, data: Dataset) -> list[tuple[str, str]]:
    parts, broken = open_split(name, data)
    findings = broken if parts is None else list(check_split(name, parts, data))
    assert all(finding.file == name for finding in findings)
    return [(finding.rule, finding.found) for finding in findings]


def test_every_fault_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"train": ["a", "b", "c"], "validate": [], "test": ["b", "c", "x"]}))
    assert check_parts(str(file), dataset("a", "b", "c")) == [
        ("split-overlap", "b is in train and in test"),
        ("split-overlap", "c is in train and in test"),
        ("split-empty", "no validate patients"),
        ("split-unknown", "1 of 3 test patients are not there: x"),
    ]


def test_a_split_without_test_patients_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("{train: [a], validate: [b]}")
    assert check_parts(str(file), dataset("a", "b")) == []


@pytest.mark.parametrize("text", ["[", '{"train": ["a"]}', '{"train": "a", "validate": ["b"]}'])
def test_a_file_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.json"
    file.write_text(text)
    assert [rule for rule, _ in check_parts(str(file), dataset("a", "b"))] == ["split"]


def test_random() -> None:
    assert check_parts("random", dataset("a", "b", "c")) == []
    assert check_parts("random", dataset("a", "b")) == [
        ("split", "2 patients are too few for a random split")
    ]


def test_published_splits() -> None:
    train, validate, test = NAMED["acdc-10-A"]
    assert check_parts("acdc-10-A", dataset(*train, *validate, *test)) == []
    found = check_parts("acdc-10-A", dataset(*train[1:], *validate, *test[:5]))
    assert [(rule, text.split(":")[0]) for rule, text in found] == [
        ("split-unknown", "1 of 10 train patients are not there"),
        ("split-untested", "15 of 20 test patients are not there"),
    ]


def test_a_run_folder_stands_for_its_split(tmp_path: Path) -> None:
    entry = {"name": "mine", "train": ["a"], "validate": ["b"], "test": ["x"]}
    (tmp_path / "run.json").write_text(json.dumps({"split": entry}))
    found = check_parts(str(tmp_path), dataset("a", "b"))
    assert found == [("split-unknown", "1 of 1 test patients are not there: x")]


def test_what_is_no_split_is_refused(tmp_path: Path) -> None:
    for name in ("acdc-11", str(tmp_path)):
        with pytest.raises(CoopsegError):
            open_split(name, dataset("a"))
