"""How reading a hostile file may end: with a value, or with one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError

REFUSED = object()
LONGEST = 1500  # characters of a message


def refusal_of(read: Callable[[Path], Any], path: Path) -> Any:
    """What `read` returns, or REFUSED after a CoopsegError in one line that names `path`; others pass."""
    try:
        return read(path)
    except CoopsegError as error:
        message = str(error)
        assert message.isprintable(), f"not one line: {message!r}"
        assert str(path) in message, f"names no file: {message}"
        assert len(message) < LONGEST, f"{len(message)} characters"
        return REFUSED
