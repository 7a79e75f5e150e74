"""Volumes against one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from coopseg.checks.across import check_across, merge_shared
from coopseg.checks.report import Fault
from coopseg.checks.volumes import Volume
from coopseg.scans.types import Dataset, Labels, ScanRef

ROOT = Path("/data")
HEART = Labels(("background", "LV", "RV"), (0, 1, 3))
UNNAMED = Labels(("background",), (0,))
ALL = frozenset({0, 1, 3})


def turned(degrees: float) -> np.ndarray:
    affine = np.diag([1.5, 1.5, 8, 1])
    affine[:3, :3] = Rotation.from_euler("x", degrees, degrees=True).as_matrix() @ affine[:3, :3]
    return affine


def volume(patient: str, phase: str = "", *, print_: str = "", degrees: float = 0, values=ALL) -> Volume:
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
        assert check(*(volume(f"p{angle}", degrees=angle) for angle in angles)) == []
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
