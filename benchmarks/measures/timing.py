"""Times functions: medians of repeated runs after one to warm up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def timed(function: Callable[[], Any], repeats: int, warm_up: int = 1) -> dict[str, Any]:
    """Returns {"median_s", "all_s"} of `repeats` runs."""
    for _ in range(warm_up):
        function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return {"median_s": statistics.median(seconds), "all_s": seconds}
