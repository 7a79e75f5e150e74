"""A process that stops when whoever started it asks, or is no more."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from coopseg.errors import Stopped

SIGNALLED = 128  # and the number of the signal: the exit code


def tether() -> None:
    """Raise Stopped after SIGTERM; and see to it that it comes when standard input ends.

    The starter holds that open, and the system closes it however the starter ends.
    """
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Stopped("stopped", number)
