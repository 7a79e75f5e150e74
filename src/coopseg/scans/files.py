"""Writes files and folders whole or not at all, and locks files."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

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


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, content: object) -> None:
    """Writes a record as JSON, whole or not at all. Raises ValueError for NaN and infinity."""
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def lock(file: IO[Any], *, wait: bool = False) -> bool:
    """Take the lock of an open file until it is closed.

    Returns False if another process holds the lock; with `wait`, waits for it instead.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


UNFINISHED = ".unfinished"  # suffix of a folder that is being filled


def check_new(out: Path) -> None:
    """Raise CoopsegError if `out` is a file or holds anything."""
    if not out.exists():
        return
    held = list(out.iterdir()) if out.is_dir() else [out]
    if held and all(entry.name.endswith(UNFINISHED) for entry in held):
        raise CoopsegError(
            f"{held[0]}: of a command that was killed or still runs; remove it, or choose another --out"
        )
    if held:
        raise CoopsegError(f"{out}: exists and is not an empty folder; choose another --out")


def make_folder(folder: Path, out: Path) -> None:
    """Make `folder`, which is `out` or lies in it. Raises CoopsegError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CoopsegError(f"{out}: cannot be made ({error.strerror}); choose another --out") from None


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yields a folder to write into and moves its content to `out` when the block ends without an error.

    It lies within `out`, which may be a mount of its own that no rename can cross. If the block raises,
    everything written and every folder made is removed. Raises CoopsegError as `check_new` does.
    """
    check_new(out)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    unfinished = out / f".{os.getpid()}{UNFINISHED}"
    make_folder(unfinished, out)
    try:
        yield unfinished
        for entry in sorted(unfinished.iterdir()):
            entry.rename(out / entry.name)
        unfinished.rmdir()
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in made:
            folder.rmdir()
        raise
