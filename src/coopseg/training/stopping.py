"""Ends a training after the current step on SIGTERM (a cluster wants the machine back) or SIGINT (Ctrl-C)."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Notes in `received`, while entered, the number of the first such signal; None until one comes.

    A second signal has its usual effect at once. Outside the main thread Python allows no handlers, so
    signals do what they always do.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            return
        self.__exit__()
        os.kill(os.getpid(), number)
