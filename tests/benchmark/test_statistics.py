"""Means, intervals and tests against slow obvious versions, scipy and answers known beforehand."""

from __future__ import annotations

import itertools
import math
from statistics import fmean, stdev

import numpy as np
import pandas as pd
import pytest
from made_up_bench import metric_rows, random_score
from scipy import stats

from coopseg.benchmark.statistics import (
    MEASURES,
    bootstrap_interval,
    holm,
    mean_over,
    number,
    per_patient,
    signed_rank,
    spread,
)

JOB = {"row": "x", "draw": "A", "seed": 0, "budget": "steps"}
DATASETS = {"ACDC": "intra", "RandBias": "corrupted", "M&Ms": "other"}


def slow(rows: list[dict], dataset: str, name: str, group: str, value: str, patient: str) -> dict[str, float]:
    """What `per_patient` gives, volume by volume."""
    facts = {"all": lambda row: "", "phase": lambda row: row["phase"], "site": lambda row: row["site"],
             "vendor": lambda row: row["site"].split("/")[0]}[group]  # fmt: skip
    own = [r for r in rows if (r["dataset"], r["patient"], facts(r)) == (dataset, patient, value)]
    volumes = []
    for case in dict.fromkeys(row["case"] for row in own):
        scores = [row for row in own if row["case"] == case and name in (row["class"], "mean")]
        measured = [row["hd95"] for row in scores if not math.isnan(row["hd95"])]
        volumes.append({
            "dice": fmean(row["dice"] for row in scores),
            "hd95": fmean(measured) if measured else math.nan,
            "distance_missing": fmean(row["distance"] == "one empty" for row in scores),
        })  # fmt: skip
    known = [v["hd95"] for v in volumes if not math.isnan(v["hd95"])]
    return {
        "dice": fmean(v["dice"] for v in volumes),
        "dice_below_0.5": fmean(v["dice"] < 0.5 for v in volumes),
        "dice_below_0.1": fmean(v["dice"] < 0.1 for v in volumes),
        "hd95": fmean(known) if known else math.nan,
        "distance_missing": fmean(v["distance_missing"] for v in volumes),
    }


def test_per_patient_is_the_slow_version() -> None:
    rows = metric_rows(JOB, DATASETS, ["FTN"], random_score, copies=3)
    found = per_patient(pd.DataFrame(rows))
    assert set(zip(found["dataset"], found["group"], found["value"], strict=True)) == {
        *((name, "all", "") for name in DATASETS),
        *((name, "phase", phase) for name in DATASETS for phase in ("ED", "ES")),
        *(("M&Ms", "vendor", name) for name in "BC"),
        *(("M&Ms", "site", name) for name in ("B/2", "C/3", "C/4")),
    }
    assert not found.duplicated(["dataset", "class", "group", "value", "patient"]).any()
    for line in found.to_dict("records"):
        keys = (line["dataset"], line["class"], line["group"], line["value"], line["patient"])
        for measure, value in slow(rows, *keys).items():
            assert line[measure] == pytest.approx(value, nan_ok=True), (keys, measure)


def test_mean_over_passes_over_what_is_missing() -> None:
    frame = pd.DataFrame({"patient": ["a", "a", "b"], "draw": ["A", "B", "A"]})
    values = {"dice": [0.2, 0.4, 0.9], "hd95": [np.nan, 3.0, np.nan]}
    frame = frame.assign(**dict.fromkeys(MEASURES, 0.0) | values)
    found = mean_over(frame, "draw").set_index("patient")
    assert found["dice"].to_dict() == pytest.approx({"a": 0.3, "b": 0.9})
    assert found["hd95"].to_dict() == pytest.approx({"a": 3.0, "b": math.nan}, nan_ok=True)


def test_interval_of_one_column_is_scipys() -> None:
    values = np.random.default_rng(1).gamma(2, size=25)
    ours = bootstrap_interval([values[:, None]])
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=2)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_interval_over_cohorts_is_the_slow_one() -> None:
    generator = np.random.default_rng(3)
    own, other = generator.normal(size=(12, 3)), generator.normal(size=(30, 1))
    own[4, 1] = own[7, 2] = np.nan
    means = []
    for _ in range(4000):
        first = own[generator.integers(12, size=12)]
        second = other[generator.integers(30, size=30)]
        means.append(np.mean([*np.nanmean(first, axis=0), *second.mean(axis=0)]))
    found = bootstrap_interval([own, other])
    assert found == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.03)


def test_copies_of_a_patient_do_not_make_an_interval_narrower() -> None:
    values = np.random.default_rng(4).normal(size=(20, 1))
    assert bootstrap_interval([np.repeat(values, 4, axis=1)]) == pytest.approx(bootstrap_interval([values]))
    low, high = bootstrap_interval([values])
    apart_low, apart_high = bootstrap_interval([values, values])  # other patients, who happen to score alike
    assert (apart_high - apart_low) / (high - low) == pytest.approx(1 / math.sqrt(2), abs=0.04)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    intervals = [bootstrap_interval([generator.normal(0.3, 1, size=(40, 1))]) for _ in range(400)]
    assert 0.90 < fmean(low < 0.3 < high for low, high in intervals) < 0.98


def test_intervals_of_nothing_and_of_equal_values() -> None:
    assert bootstrap_interval([]) is None
    assert bootstrap_interval([np.ones((1, 2))]) is None
    assert bootstrap_interval([np.ones((9, 1)), np.ones((1, 1))]) is None
    assert bootstrap_interval([np.full((5, 2), 0.25)]) == pytest.approx((0.25, 0.25))


def test_signed_rank_counts_every_flip_of_signs() -> None:
    for seed in range(5):
        values = np.random.default_rng(seed).normal(0.4, 1, size=8)
        ranks = stats.rankdata(np.abs(values))
        centre = ranks.sum() / 2
        seen = abs(ranks[values > 0].sum() - centre)
        flips = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=8)]
        slow_p = fmean(abs(flip - centre) >= seen - 1e-9 for flip in flips)
        assert signed_rank(values) == pytest.approx(slow_p)
    assert signed_rank(np.zeros(6)) is None
    assert signed_rank(np.array([0.5])) == 1


def test_holm_by_hand() -> None:
    # 4 · 0.005; 3 · 0.01; 2 · 0.03; then 1 · 0.04, no smaller than the one before it
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([None]) == [None]
    assert holm([0.02]) == [0.02]


def test_holm_keeps_false_alarms_rare() -> None:
    generator = np.random.default_rng(6)
    families = [holm(list(generator.uniform(size=10))) for _ in range(2000)]
    assert 0.03 < fmean(min(family) < 0.05 for family in families) < 0.07


def test_small_numbers() -> None:
    assert spread([1.0]) is None
    assert spread([1.0, 2.0, 4.0]) == pytest.approx(stdev([1, 2, 4]))
    assert number(math.nan) is None
    assert number(0.5) == 0.5
