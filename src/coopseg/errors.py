"""Defines the errors that a user is meant to see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class CoopsegError(ValueError):
    """An input is wrong and the user can put it right.

    The message is one line: what was found, where (the path), and what to do. The command line
    prints it without a traceback and exits with code 2; anything else that is raised is a bug.
    rule: the rule of `coopseg validate` that the input breaks, if there is one for it.

    >>> import coopseg
    >>> coopseg.open_dataset("nowhere")
    Traceback (most recent call last):
        ...
    coopseg.errors.CoopsegError: nowhere: no such folder; give the folder that holds the data set
    """

    def __init__(self, message: str = "", *, rule: str = "") -> None:
        super().__init__(message)
        self.rule = rule


class PartlyDone(CoopsegError):  # noqa: N818 (most is right)
    """Some inputs of many could not be used; the others are done, and what was made of them is written.

    failed: an error of one line for each. done: what the function would have returned. total: how many inputs
    there were. then: what to do with those that failed, once they are corrected. The command line names them
    and exits with code 1.
    """

    def __init__(
        self,
        failed: Sequence[CoopsegError],
        done: Any,
        out: Path,
        total: int,
        *,
        then: str = "go on with --resume",
    ) -> None:
        super().__init__(
            f"{len(failed)} of {total} scans failed, the others are done in {out}; correct these, then {then}"
        )
        self.failed, self.done = tuple(failed), done


def first_of(failed: Sequence[CoopsegError]) -> CoopsegError:
    """Returns what to raise if no input of a command can be used: the first error, with their number."""
    more = f" ({len(failed)} scans failed, none is left)" if len(failed) > 1 else ""
    return CoopsegError(f"{failed[0]}{more}", rule=failed[0].rule)


class Stopped(Exception):  # noqa: N818 (nothing is wrong)
    """A training was asked by a signal to stop, and has saved what it needs to go on.

    signal: the signal's number. The command line exits with 128 + that number: 143 after SIGTERM.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


FULL = ("out of memory", "can't allocate memory")  # what torch says, whose errors have no narrower class


@contextmanager
def enough_memory(doing: str, file: object) -> Iterator[None]:
    """Turns the end of the memory within the block into a CoopsegError that names the file and the work."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in FULL):
            raise CoopsegError(
                f"{file}: too little memory for {doing} it; free some, or look at its size"
            ) from None
        raise
