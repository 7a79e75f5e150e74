"""Collects errors, so that one broken entry of a data set does not hide the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coopseg.errors import CoopsegError

Problems = list[CoopsegError] | None  # None: the first problem is raised


@contextmanager
def keep(problems: Problems) -> Iterator[None]:
    """Adds a CoopsegError raised in the block to `problems`; lets it pass if `problems` is None."""
    try:
        yield
    except CoopsegError as error:
        if problems is None:
            raise
        problems.append(error)
