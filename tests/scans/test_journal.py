"""What is done is listed as it is done, and believed only where it is whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.journal import JOURNAL, open_journal, stamp


@dataclass(frozen=True)
class Note:
    """What is noted of a thing that is done."""

    seconds: float
    warnings: tuple[str, ...] = ()


FACTS = {"model": "abc", "refinements": 1}


def begin(out: Path) -> None:
    """Does one thing, then stops."""
    with suppress(KeyboardInterrupt), open_journal(out, Note, FACTS, resume=True) as journal:
        (out / "a.nii").write_bytes(b"whole")
        journal.add("a", [1], Note(1.5, ("odd",)), [out / "a.nii"])
        raise KeyboardInterrupt


def test_what_is_done_is_found(tmp_path: Path) -> None:
    begin(tmp_path / "out")
    with open_journal(tmp_path / "out", Note, FACTS, resume=True) as journal:
        assert journal.find("a", [1]) == Note(1.5, ("odd",))
        assert journal.find("a", [2]) is None  # made from something else
        assert journal.find("b", [1]) is None
        assert journal.describe_skipped("scan") == "1 scan done before, not done again"


@pytest.mark.parametrize("damage", ["its file", "no file", "torn line", "NUL line", "other content"])
def test_what_is_not_whole_is_done_again(tmp_path: Path, damage: str) -> None:
    begin(tmp_path)
    file, journal_file = tmp_path / "a.nii", tmp_path / JOURNAL
    if damage == "its file":
        file.write_bytes(b"whol")
    elif damage == "no file":
        file.unlink()
    elif damage == "torn line":
        journal_file.write_bytes(journal_file.read_bytes()[:-5])
    elif damage == "NUL line":
        first, _, rest = journal_file.read_bytes().partition(b"\n")
        journal_file.write_bytes(first + b"\n" + b"\0" * len(rest) + b"\n")
    else:
        journal_file.write_text(journal_file.read_text().replace("1.5", '"many"'))
    with open_journal(tmp_path, Note, FACTS, resume=True) as journal:
        assert journal.find("a", [1]) is None
        journal.add("a", [1], Note(2.5))
    with open_journal(tmp_path, Note, FACTS, resume=True) as journal:
        assert journal.find("a", [1]) == Note(2.5)


def test_a_stop_before_anything_is_done_leaves_nothing(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), open_journal(tmp_path / "a/b", Note, FACTS, resume=False):
        (tmp_path / "a/b/half.nii").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_other_facts_and_foreign_folders(tmp_path: Path) -> None:
    begin(tmp_path / "out")
    before = (tmp_path / "out" / JOURNAL).read_bytes()
    for facts, resume, message in (
        (
            {**FACTS, "refinements": 0},
            True,
            "refinements = 1, this one has refinements = 0; give the same options, or choose another --out",
        ),
        (FACTS, False, "go on in it by --resume"),
    ):
        with (
            pytest.raises(CoopsegError, match=message),
            open_journal(tmp_path / "out", Note, facts, resume=resume),
        ):
            pass
    assert (tmp_path / "out" / JOURNAL).read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    with (
        pytest.raises(CoopsegError, match="not an empty folder"),
        open_journal(tmp_path / "mine", Note, FACTS, resume=True),
    ):
        pass
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_stamp_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"1")
    before = stamp(file, None)
    file.write_bytes(b"12")
    assert stamp(file) != before
    assert stamp(tmp_path / "none") == [[]]
