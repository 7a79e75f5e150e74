"""The one error class a user is meant to see."""

from __future__ import annotations


class CoopsegError(ValueError):
    """An input is wrong and the user can put it right.

    The message is one line: what was found, where (the path), and what to do. The command line
    prints it without a traceback and exits with code 2; anything else that is raised is a bug.
    """
