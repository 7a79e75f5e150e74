"""Writes files and folders whole or not at all, and keeps a folder for one process."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from coopseg.errors import CoopsegError


def is_file(path: Path) -> bool:
    """Tells whether `path` is a file; False if its name is too long for the system."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Tells whether `path` is a folder; False if its name is too long for the system."""
    try:
        return path.is_dir()
    except OSError:
        return False


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has every OSError of the block name `path`: the system says of a full disk only that it is full."""
    try:
        yield
    except BrokenPipeError:  # whoever read our output has seen enough
        raise
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a crash at any moment leaves the old file or the new one.

    It writes a temporary file in the same folder (a rename across file systems is not atomic), flushes and
    fsyncs it, calls `os.replace` and fsyncs the folder. The mode follows the umask. Missing folders are made.
    Raises OSError, which names `path`, if the disk is full or the file cannot be written for another reason.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)


def clear_temporary(folder: Path) -> None:
    """Removes what `write_atomically` has left below a folder where it was killed."""
    for file in folder.rglob(".*.tmp"):
        if TEMPORARY.fullmatch(file.name):
            file.unlink(missing_ok=True)


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, content: object) -> None:
    """Writes a record as JSON, whole or not at all. Raises ValueError for NaN and infinity."""
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


LOCK = ".lock"  # in a folder that is worked in; never replaced nor removed, so that all lock the same file
HOLDER = 200  # most bytes of it that are read


@contextmanager
def locked(folder: Path, *, waiting: Callable[[str], object] | None = None) -> Iterator[None]:
    """Keeps a folder for this process alone while the block runs, by a lock on its file .lock.

    waiting: if given and another process has the folder, it is called with a line that says which, and the
    lock is waited for. Else CoopsegError is raised with this line, and for a folder that cannot be locked.
    The system gives a lock back when its process ends, however it ends.
    """
    file = _open_lock(folder / LOCK)
    try:
        if not _take(file):
            holder = os.pread(file, HOLDER, 0).decode("utf-8", "replace")
            held = f"{folder}: {holder if holder.isprintable() and holder else 'another process'} works in it"
            if waiting is None:
                raise CoopsegError(f"{held}; wait, or stop that one")
            waiting(held)
            fcntl.flock(file, fcntl.LOCK_EX)
        since = time.strftime("%Y-%m-%dT%H:%M:%S")
        said = f"process {os.getpid()} on {platform.node()}, since {since},"
        with naming(folder / LOCK):
            os.ftruncate(file, 0)
            os.pwrite(file, said.encode()[:HOLDER], 0)
        yield
    finally:
        os.close(file)


def _open_lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o666)
    except OSError as error:
        raise CoopsegError(f"{path}: cannot be locked ({error.strerror}); choose another folder") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise CoopsegError(f"{path}: is no regular file; remove it")
    return file


def _take(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
UNFINISHED = ".unfinished"  # suffix of a folder that is being filled


def check_new(out: Path, *, argument: str = "--out") -> None:
    """Raise CoopsegError, which names the argument, if `out` is a file or holds anything but a lock."""
    if not out.exists():
        return
    held = [entry for entry in out.iterdir() if entry.name != LOCK] if out.is_dir() else [out]
    if held and all(entry.name.endswith(UNFINISHED) for entry in held):
        raise CoopsegError(
            f"{held[0]}: of a command that was killed or still runs; remove it, or choose another {argument}"
        )
    if held:
        raise CoopsegError(f"{out}: exists and is not an empty folder; choose another {argument}")


def make_folder(folder: Path, out: Path) -> None:
    """Make `folder`, which is `out` or lies in it. Raises CoopsegError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_made(out, error) from None


def _not_made(out: Path, error: OSError) -> CoopsegError:
    return CoopsegError(f"{out}: cannot be made ({error.strerror}); choose another --out")


@contextmanager
def new_folder(out: Path, *, last: str = "") -> Iterator[Path]:
    """Yields a folder to write into and moves its content to `out` when the block ends without an error.

    It lies within `out`, which may be a mount of its own that no rename can cross. last: the file that says
    that all the others are there, which is moved after them. If the block raises, everything written and
    every folder made is removed. Raises CoopsegError as `check_new` does, and if another process fills `out`.
    """
    check_new(out)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    unfinished = _make_unfinished(out)
    try:
        yield unfinished
        for entry in sorted(unfinished.iterdir(), key=lambda entry: (entry.name == last, entry.name)):
            entry.rename(out / entry.name)
        unfinished.rmdir()
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in made:
            folder.rmdir()
        raise


def _make_unfinished(out: Path) -> Path:
    """Makes the folder that is filled; the system lets one process alone do so."""
    make_folder(out, out)
    unfinished = out / UNFINISHED
    try:
        unfinished.mkdir()
    except OSError as error:
        check_new(out)
        raise _not_made(out, error) from None
    if {entry.name for entry in out.iterdir()} - {LOCK, UNFINISHED}:  # another process was quicker
        unfinished.rmdir()
        check_new(out)
    return unfinished
