"""Which files are scans."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coopseg.errors import CoopsegError
from coopseg.scans import discover
from coopseg.scans.discover import alike, expand_scans, files_below, others_in


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


def test_a_folder_that_holds_scans_may_be_called_label_study(tree: Path) -> None:
    (tree / "label_study").mkdir()
    (tree / "labels").rename(tree / "label_study/raw")
    assert names(tree, "label_study") == ["label_study/raw/b.nii.gz"]


def test_what_was_passed_over_where_no_scan_is_found(tree: Path) -> None:
    (tree / "labels/picture.png").touch()
    with pytest.raises(
        CoopsegError,
        match=r"no scan found \(2 passed over: label map by its name \(1\), another format \(1\)\)",
    ):
        expand_scans([tree / "labels"])


def test_others_in(tree: Path) -> None:
    for name in ("x.NRRD", "y.nrrd", "z.mha", ".hidden.mha"):
        (tree / name).touch()
    assert others_in(tree, tree / "deep", tree / "nowhere") == (
        "2 .nrrd files, 1 .mha file, which cannot be read"
    )
    assert others_in(tree / "deep") == ""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("a.nii.gz", "a.nii"), ("B.nii.gz", "b.nii.gz"), ("x.nii", None), ("nowhere/a.nii", None), ("\0", None)],
)
def test_alike(tree: Path, wanted: str, found: str | None) -> None:
    there = alike(tree / wanted)
    assert (there and there.name) == found


def test_a_folder_that_takes_long_to_list_is_spoken_of(
    coopseg: Callable[..., Any], tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(folder: Path) -> Iterator[Path]:
        time.sleep(0.1)
        return files_below(folder)

    monkeypatch.setattr(discover, "PATIENCE", 0.02)
    monkeypatch.setattr(discover, "files_below", slow)
    monkeypatch.setattr("coopseg.scans.layouts.found.files_below", slow)
    said = f"{tree}: still listing its files, after 0 s"
    assert coopseg("validate", tree).stderr.splitlines()[0] == said
    caplog.set_level("INFO")
    caplog.clear()
    expand_scans([tree])
    assert {record.getMessage() for record in caplog.records} == {said}


def test_a_folder_that_does_not_is_not(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    expand_scans([tree])
    assert not caplog.records
