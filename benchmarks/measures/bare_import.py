"""Measures what Python, torch and the package take before any work."""

from __future__ import annotations

import time
from typing import Any


def measure() -> dict[str, Any]:
    """Times the import of the training loop in a new process; returns {"median_s"}."""
    start = time.perf_counter()
    import coopseg.training.loop  # noqa: F401

    return {"median_s": time.perf_counter() - start}
