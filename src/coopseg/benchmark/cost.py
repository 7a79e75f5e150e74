"""What a row costs: a step and its memory as probed alone on the machine, and its whole trainings."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from coopseg.benchmark.collected import STEPS, TIME, Collected
from coopseg.benchmark.grid import BASELINES

PROBED = ("seconds_per_step", "spread", "peak_memory_gb", "threads", "device", "precision", "machine")


def costs(collected: Collected) -> list[dict[str, Any]]:
    """A line a row: its probe (or the probe's error), steps, and seconds of its finished jobs by budget.

    seconds_per_step and spread: median and interquartile range of a probe's steps. times_baseline: the step
    over that of the row `against`, the first baseline that was probed. trainings: for each budget the number
    of finished jobs, the mean of their steps and of their seconds (training, evaluation, whole job). None is
    what was not measured.
    """
    against = next((row for row in BASELINES if _step(collected, row)), None)
    baseline = _step(collected, against) if against else None
    lines = []
    for row in collected.rows:
        probe, own = collected.probes.get(row, {}), _step(collected, row)
        ratio = own / baseline if own and baseline else None
        line: dict[str, Any] = {"row": row, **{key: probe.get(key) for key in PROBED}}
        line |= {"error": probe.get("error"), "times_baseline": ratio, "against": against}
        lines.append(line | {"trainings": _trainings(collected, row)})
    return lines


def _step(collected: Collected, row: str) -> float | None:
    return collected.probes.get(row, {}).get("seconds_per_step")


def _trainings(collected: Collected, row: str) -> dict[str, dict[str, Any]]:
    found = {}
    for budget in (STEPS, TIME):
        jobs = [job for job in collected.jobs_of(row, budget) if job.state == "finished"]
        if jobs:
            keys = ("seconds", "training_seconds", "evaluation_seconds")
            means = {key: _mean([job.outcome.get(key) for job in jobs]) for key in keys}
            steps = _mean([job.run.get("steps") for job in jobs])
            found[budget] = {"jobs": len(jobs), "steps": steps, **means}
    return found


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
