"""Estimates: from rough costs, then from what was measured; never a time from nowhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coopseg.benchmark.estimate import (
    START,
    VALIDATING,
    VOLUME,
    Known,
    in_words,
    relative_cost,
    standard_step,
)
from coopseg.benchmark.grid import Job, Result
from coopseg.config.resolve import resolve_settings

SETTINGS = resolve_settings(preset="cpu")
KNOWN = Known(settings=lambda row: SETTINGS, steps=lambda row: 600, volumes=100)
STANDARD = Job("s", "standard", "train", "A", 0)


def result(row: str, training: float, evaluation: float = 30.0) -> Result:
    return Result(
        id=row, row=row, draw="A", seed=0, budget="steps", steps=600, seconds=training + evaluation,
        training_seconds=training, evaluation_seconds=evaluation, finished="",
    )  # fmt: skip


def test_the_measured_costs_of_two_cores() -> None:
    """docs/performance.md: 0.39 s a step of standard training at preset cpu, 1.82 s at the published size."""
    assert standard_step(SETTINGS) == pytest.approx(0.39, rel=0.1)
    assert standard_step(resolve_settings()) == pytest.approx(1.82, rel=0.1)


def test_from_nothing_to_the_jobs_themselves() -> None:
    rough = KNOWN.seconds(STANDARD)
    assert rough == pytest.approx(START + VALIDATING * 600 * standard_step(SETTINGS) + 100 * VOLUME)
    probed = replace(KNOWN, probes={"standard": 0.2, "cooperative": 0.7})
    assert probed.seconds(STANDARD) == pytest.approx(START + VALIDATING * 120 + 25)
    # Another row took half as long again as its steps, and 40 s for its evaluation.
    ended = replace(probed, results=[result("cooperative", 1.5 * 600 * 0.7, 40)])
    assert ended.seconds(STANDARD) == pytest.approx(START + 1.5 * 120 + 40)
    own = replace(ended, results=[*ended.results, result("standard", 100), result("standard", 110)])
    assert own.seconds(STANDARD) == pytest.approx(135)


def test_a_row_without_a_probe_is_scaled_by_those_that_have_one() -> None:
    probed = replace(KNOWN, probes={"standard": 2.0, "randconv": 2.0 * relative_cost("randconv")})
    assert probed.step("maxstyle") == pytest.approx(2.0 * relative_cost("maxstyle"))
    assert (
        relative_cost("cooperative+randconv") == relative_cost("cooperative") + relative_cost("randconv") - 1
    )


def test_equal_time_takes_what_cooperative_takes() -> None:
    probed = replace(KNOWN, probes={"standard": 0.2, "cooperative": 0.5})
    timed = replace(STANDARD, budget="time")
    cooperative = Job("c", "cooperative", "train", "A", 0)
    assert probed.seconds(timed) == probed.seconds(cooperative)


def test_what_is_left_side_by_side() -> None:
    known = replace(KNOWN, results=[result("standard", 70), result("long", 970)])
    jobs = [replace(STANDARD, id=str(number)) for number in range(4)]
    assert known.left(jobs, width=1) == pytest.approx(400)
    assert known.left(jobs, width=2) == pytest.approx(200)
    assert known.left([*jobs, replace(STANDARD, row="long")], width=4) == pytest.approx(1000)
    assert known.left([], width=2) == 0
    assert known.left([], width=2, probes=["standard"]) > START
    predictor = Job("p", "p", "predictor", "-", 0)
    assert KNOWN.seconds(predictor) == pytest.approx(START + 25)


def test_words() -> None:
    assert [in_words(seconds) for seconds in (40, 300, 9000)] == ["40 s", "5 min", "2.5 h"]
