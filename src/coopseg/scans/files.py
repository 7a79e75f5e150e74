"""Writes files whole or not at all, and locks files so that one process can keep a folder to itself."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, Any


def is_file(path: Path) -> bool:
    """Tells whether `path` is a file; False if its name is too long for the system."""
    try:
        return path.is_file()
    except OSError:
        return False


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a crash at any moment leaves the old file or the new one.

    It writes a temporary file in the same folder (a rename across file systems is not atomic), flushes and
    fsyncs it, calls `os.replace` and fsyncs the folder. The mode follows the umask. Missing folders are made.
    """
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
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def lock(file: IO[Any], *, wait: bool = False) -> bool:
    """Take the lock of an open file until it is closed.

    Returns False if another process holds the lock; with `wait`, waits for it instead.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
