"""Which files are scans."""

from pathlib import Path

import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.discover import expand_scans, patient_and_phase


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    names = ["b.nii.gz", "a.nii", "a_gt.nii", "b_seg.nii.gz", "._b.nii.gz", "notes.txt", "deep/er/c.nii.gz"]
    names += ["deep/er/c_label.nii.gz", "labels/b.nii.gz", "labelsTr/z.nii.gz", "deep/d_mask.nii.gz"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(tree: Path, *entries: str) -> list[str]:
    return [
        path.relative_to(tree).as_posix() for path in expand_scans([tree / entry for entry in entries])[0]
    ]


def test_folders_are_searched_throughout_without_label_maps(tree: Path) -> None:
    assert names(tree, ".") == ["a.nii", "b.nii.gz", "deep/er/c.nii.gz"]


def test_files_patterns_and_order(tree: Path) -> None:
    assert names(tree, "deep/er/c.nii.gz", "a.nii") == ["deep/er/c.nii.gz", "a.nii"]
    assert names(tree, "?.nii*") == ["a.nii", "b.nii.gz"]
    assert names(tree, "**/c.nii.gz") == ["deep/er/c.nii.gz"]


def test_each_file_once(tree: Path) -> None:
    assert names(tree, "a.nii", "*.nii", "a.nii") == ["a.nii", "a_gt.nii"]


def test_a_named_label_map_is_taken(tree: Path) -> None:
    assert names(tree, "a_gt.nii") == ["a_gt.nii"]


@pytest.mark.parametrize("entry", ["none.nii.gz", "nowhere", "nowhere/labels"])
def test_a_path_that_is_not_there(tree: Path, entry: str) -> None:
    with pytest.raises(CoopsegError, match=f"{entry}: no such file or folder; check the path"):
        expand_scans([tree / "a.nii", tree / entry])


@pytest.mark.parametrize("entry", ["*.mha", "labels"])
def test_nothing_found(tree: Path, entry: str) -> None:
    with pytest.raises(CoopsegError, match="no scan found"):
        expand_scans([tree / "a.nii", tree / entry])


def test_other_files_and_nothing_given(tree: Path) -> None:
    with pytest.raises(CoopsegError, match=r"notes\.txt: not a \.nii or \.nii\.gz file"):
        expand_scans([tree / "notes.txt"])
    with pytest.raises(CoopsegError, match="no scan was given"):
        expand_scans([])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("p01_ED", ("p01", "ED")), ("p_01_es", ("p_01", "ES")), ("p01_frame07", ("p01", "frame07")),
     ("p01", ("p01", "")), ("frame07", ("frame07", "")), ("p01_EDx", ("p01_EDx", ""))],
)  # fmt: skip
def test_patient_and_phase(name: str, expected: tuple[str, str]) -> None:
    assert patient_and_phase(name) == expected
