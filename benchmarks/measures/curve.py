"""Measures seconds and memory of a step against one quantity, and where they leave the straight line.

    python benchmarks/measure.py curve '{"vary": "batch_size"}'

Everything else stays at preset `cpu`: 128 x 128, batch 8, width 16. Every point has a process of its own,
forked from one that has imported torch and compiled the kernels but computed nothing.
"""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable
from typing import Any

import torch
from measures.batch_input import made_up_loop
from measures.timing import timed

from coopseg.config.resolve import resolve_settings
from coopseg.networks.native import kernels
from coopseg.training.processes import keep_freed_memory, make_fabric, peak_memory_gb

POINTS = {
    "batch_size": (2, 4, 8, 12, 20, 28),
    "side": (96, 128, 160, 192, 256),
    "width": (4, 8, 16, 24, 32),
    "slices": (100, 1000, 5000),
}
Scale = Callable[[int], int]
# What a straight line is expected in, where that is not the quantity itself: pixels, and nothing at all.
SCALES: dict[str, dict[str, Scale]] = {
    "seconds": {"side": lambda side: side**2, "slices": lambda slices: 0},
    "peak_gb": {"side": lambda side: side**2},
}
SLICES = 100  # where their number is not what varies


def measure(
    *,
    vary: str,
    points: list[int] | None = None,
    preset: str = "cpu",
    precision: str = "32",
    repeats: int = 2,
    threads: int = 2,
) -> dict[str, Any]:
    """Returns {"points": one per value with seconds, peak_gb and ratios to the line of the first two}."""
    values = points or POINTS[vary]
    used = str(kernels())
    found = [in_a_fork(vary, value, preset, precision, repeats, threads) for value in values]
    for kind, scales in SCALES.items():
        lengths = [scales.get(vary, int)(value) for value in values]
        line = line_of_first_two(lengths, [entry[kind] for entry in found])
        for entry, length in zip(found, lengths, strict=True):
            entry[f"{kind}_to_line"] = entry[kind] / line(length)
    median = statistics.median(entry["seconds"] for entry in found)
    return {"median_s": median, "vary": vary, "kernels": used, "points": found}


def in_a_fork(*arguments: Any) -> dict[str, float]:
    """Measures `point` in a process of its own, whose peak of memory is nobody else's."""
    with multiprocessing.get_context("fork").Pool(1) as fresh:
        return fresh.apply(point, arguments)


def point(vary: str, value: int, preset: str, precision: str, repeats: int, threads: int) -> dict[str, float]:
    """Measures one value of the quantity, in this process."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    overrides: dict[str, dict[str, Any]] = {
        "batch_size": {"training.batch_size": value},
        "side": {"cases.size": (value, value)},
        "width": {"network.width": value},
        "slices": {},
    }
    settings = resolve_settings(
        preset=preset, method="cooperative", precision=precision, overrides=overrides[vary]
    )
    slices = value if vary == "slices" else SLICES
    training = made_up_loop(settings, slices, make_fabric("cpu", precision))
    seconds = timed(training.train_step, repeats)["median_s"]
    return {"value": value, "seconds": seconds, "peak_gb": peak_memory_gb(torch.device("cpu"))}


def line_of_first_two(x: list[int], y: list[float]) -> Callable[[int], float]:
    """Returns the straight line through the first two points; a level one if x should change nothing."""
    slope = (y[1] - y[0]) / (x[1] - x[0]) if x[1] != x[0] else 0.0
    return lambda at: y[0] + slope * (at - x[0])
