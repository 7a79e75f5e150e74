"""One broken entry of a data set need not hide the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coopseg.errors import CoopsegError

Problems = list[CoopsegError] | None  # None: the first problem is raised


@contextmanager
def keep(problems: Problems) -> Iterator[None]:
    """Within it a CoopsegError ends the block as ever, or is added to `problems` where that is a list."""
    try:
        yield
    except CoopsegError as error:
        if problems is None:
            raise
        problems.append(error)
