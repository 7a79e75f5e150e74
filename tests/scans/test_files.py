"""Files and folders written whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.files import (
    LOCK,
    check_new,
    clear_temporary,
    locked,
    new_folder,
    write_atomically,
    write_json,
)


def test_replaces_content_and_leaves_no_other_file(tmp_path: Path) -> None:
    target = tmp_path / "below" / "file.bin"
    write_atomically(target, b"old")
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["file.bin"]


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_failure_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.bin"
    write_atomically(target, b"old")

    def fail(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=f"No space left on device: '{target}'"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


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
    (tmp_path / ".unfinished").mkdir()
    with pytest.raises(CoopsegError, match=r"\.unfinished: of a command that was killed"):
        check_new(tmp_path)


def test_two_processes_do_not_fill_one_folder(tmp_path: Path) -> None:
    """The second begins while the first writes, and after it has written."""

    def fill() -> None:
        with new_folder(tmp_path):
            raise AssertionError

    with new_folder(tmp_path, last="a") as folder:
        (folder / "a").touch()
        with pytest.raises(CoopsegError, match="of a command that was killed or still runs"):
            fill()
    with pytest.raises(CoopsegError, match="is not an empty folder"):
        fill()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_kill_while_files_move_leaves_out_the_one_that_says_that_all_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, moved = Path.rename, []

    def record(path: Path, target: Path) -> Path:
        moved.append(path.name)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", record)
    with new_folder(tmp_path, last="evaluation.json") as folder:
        for name in ("metrics.json", "evaluation.json", "slices.npz", "a"):
            (folder / name).touch()
    assert moved == ["a", "metrics.json", "slices.npz", "evaluation.json"]


def test_a_lock_is_held_until_its_process_ends(tmp_path: Path, hold: Callable[[Path], int]) -> None:
    with locked(tmp_path):
        inode = (tmp_path / LOCK).stat().st_ino
    pid, said = hold(tmp_path), list[str]()

    def free(line: str) -> None:
        said.append(line)
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(CoopsegError, match=rf"^{tmp_path}: process {pid} on .*, since 2.*, works in it"):
        locked(tmp_path).__enter__()
    with locked(tmp_path, waiting=free):
        assert said == [line for line in said if f"process {pid} on" in line and line.endswith("works in it")]
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
    assert (tmp_path / LOCK).stat().st_ino == inode
    check_new(tmp_path)  # a lock that nobody holds is nothing


def test_a_lock_that_is_no_file(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("1")
    cases: tuple[tuple[Callable[[Path], object], str], ...] = (
        (lambda path: path.symlink_to(precious), "cannot be locked"),
        (os.mkfifo, "is no regular file"),
        (Path.mkdir, "cannot be locked"),
    )
    for number, (make, says) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / LOCK)
        with pytest.raises(CoopsegError, match=says):
            locked(folder).__enter__()
    assert precious.read_text() == "1"


def test_a_record_is_json_of_one_entry_a_line_without_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1, "b": [None]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1,\n "b": [\n  null\n ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert (tmp_path / "a.json").is_file()


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "a" / ".hidden.tmp").mkdir(parents=True)
    kept = [tmp_path / "a" / "scan.nii.gz", tmp_path / "a" / ".notes.tmp", tmp_path / "b.123.tmp"]
    left = [tmp_path / ".x.nii.gz.123.tmp", tmp_path / "a" / ".manifest.json.9.tmp"]
    for file in (*kept, *left):
        file.write_bytes(b"x")
    clear_temporary(tmp_path)
    assert all(file.exists() for file in kept)
    assert not any(file.exists() for file in left)
