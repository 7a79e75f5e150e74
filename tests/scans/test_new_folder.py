"""An output folder is whole or as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.new_folder import check_new, new_folder


@pytest.mark.parametrize("exists", [False, True])
def test_content_arrives_at_the_end(tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "a" / "b"
    if exists:
        out.mkdir(parents=True)
    with new_folder(out) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("1")
        assert not (out / "sub").exists()
    assert [str(path.relative_to(out)) for path in sorted(out.rglob("*"))] == ["sub", "sub/x"]


def test_after_an_error_all_is_as_it_was(tmp_path: Path) -> None:
    def fill(out: Path) -> None:
        with new_folder(out) as folder:
            (folder / "x").write_text("1")
            raise KeyboardInterrupt

    for out in (tmp_path / "a" / "b", tmp_path):
        with pytest.raises(KeyboardInterrupt):
            fill(out)
        assert list(tmp_path.iterdir()) == []


def test_refuses_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("1")
    for out, message in (
        (tmp_path, "is not an empty folder"),
        (file, "is not an empty folder"),
        (file / "x", "cannot be made"),
    ):
        with pytest.raises(CoopsegError, match=f"{out}: .*{message}"), new_folder(out):
            raise AssertionError
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_command_left_is_named(tmp_path: Path) -> None:
    (tmp_path / ".123.unfinished").mkdir()
    with pytest.raises(CoopsegError, match=r"\.123\.unfinished: of a command that was killed"):
        check_new(tmp_path)
