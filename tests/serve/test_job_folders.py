"""Names from outside: whatever they are, files lie below the folder, each in its own place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coopseg.serve.places import LONGEST, Places, Refused, Room, clean

NAMES = {
    "scan.nii.gz": "scan.nii.gz",
    "p01/a/scan.nii.gz": "p01/a/scan.nii.gz",
    "../../etc/passwd": "etc/passwd",
    "/etc/passwd": "etc/passwd",
    r"C:\scans\..\..\x.nii": "C_/scans/x.nii",
    "a\0b.nii.gz": "a_b.nii.gz",
    "line\nbreak\x1b[31m.nii": "line_break__31m.nii",
    "Mu\u0308ller_ED.nii.gz": "M\u00fcller_ED.nii.gz",  # as a Mac writes it
    "\u5fc3\u81d3_ES.nii": "\u5fc3\u81d3_ES.nii",
    "\u202egz.iin": "_gz.iin",  # which would be shown from right to left
    "\ud800.nii": "_.nii",  # no character
    '"; rm -rf ~; ".nii': "___rm_-rf_____.nii",
    "x" * 5000 + "_ED.nii.gz": "x" * (LONGEST - 10) + "_ED.nii.gz",
    "\u00e4" * 300: "\u00e4" * (LONGEST // 2),
    "1/2/3/4/5/6/7/8/9/10/IM1": "3/4/5/6/7/8/9/10/IM1",
    "1.2.840.10008": "1.2.840.10008",
}


@pytest.mark.parametrize(("sent", "kept"), NAMES.items(), ids=map(ascii, NAMES))
def test_names(sent: str, kept: str, tmp_path: Path) -> None:
    assert Places(tmp_path).find(sent) == tmp_path / kept


@pytest.mark.parametrize(
    "sent",
    ["", ".", "..", "/", "../..", ".DS_Store", "a/._scan.nii.gz", ".git/x.nii", "__MACOSX/x.nii", "..."],
)
def test_what_is_no_file_has_no_place(sent: str, tmp_path: Path) -> None:
    assert Places(tmp_path).find(sent) is None
    assert list(tmp_path.iterdir()) == []


def test_no_two_files_share_a_place(tmp_path: Path) -> None:
    places = Places(tmp_path)
    sent = ["a.nii", "A.nii", "a.nii", "a.nii/b", "b*/x_ED.nii", "b?/x_ED.nii", "b*/x_ED.nii"]
    found = [places.find(name) for name in sent]
    assert found == [
        tmp_path / name
        for name in (
            "a.nii", "2_A.nii", "3_a.nii", "4_a.nii/b", "b_/x_ED.nii", "2_b_/x_ED.nii", "b_/2_x_ED.nii",
        )
    ]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=400), max_size=12))
def test_any_names(sent: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        places = Places(root)
        written = [path for name in sent if (path := places.find(name))]
        for path in written:
            path.open("xb").close()
        assert all(root in path.resolve().parents for path in written)
        assert len({str(path).casefold() for path in written}) == len(written)
        assert {path.name for path in Path(folder).iterdir()} <= {"root"}


@given(st.text(st.characters()))
def test_a_clean_name_stays_as_it_is(name: str) -> None:
    assert clean(clean(name)) == clean(name)
    assert 0 < len(clean(name).encode()) <= LONGEST


def test_room() -> None:
    room = Room(10, 2, "full")
    room.take(10, files=2)
    room.take()
    for more in ({"size": 1}, {"files": 1}):
        with pytest.raises(Refused, match="full; send fewer scans at once") as refused:
            room.check(**more)
        assert refused.value.status == 413
