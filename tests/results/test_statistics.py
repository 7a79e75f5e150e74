"""Means, intervals and tests against slow obvious versions, scipy and answers known beforehand."""

from __future__ import annotations

import itertools
import math
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from scipy import stats

from coopseg.results.statistics import (
    bootstrap_interval,
    holm,
    is_clear,
    limits_of_agreement,
    number,
    sign_flip,
    spread,
)


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


def interval_of(*groups: np.ndarray) -> tuple[float, float]:
    """The interval, which has to be there."""
    found = bootstrap_interval(groups)
    assert found is not None
    return found


def test_copies_of_a_patient_do_not_make_an_interval_narrower() -> None:
    values = np.random.default_rng(4).normal(size=(20, 1))
    assert bootstrap_interval([np.repeat(values, 4, axis=1)]) == pytest.approx(bootstrap_interval([values]))
    low, high = interval_of(values)
    apart_low, apart_high = interval_of(values, values)  # other patients, who happen to score alike
    assert (apart_high - apart_low) / (high - low) == pytest.approx(1 / math.sqrt(2), abs=0.04)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    intervals = [interval_of(generator.normal(0.3, 1, size=(40, 1))) for _ in range(400)]
    assert 0.90 < fmean(low < 0.3 < high for low, high in intervals) < 0.98


def test_intervals_of_nothing_and_of_equal_values() -> None:
    assert bootstrap_interval([]) is None
    assert bootstrap_interval([np.ones((1, 2))]) is None
    assert bootstrap_interval([np.ones((9, 1)), np.ones((1, 1))]) is None
    assert bootstrap_interval([np.full((5, 2), 0.25)]) == pytest.approx((0.25, 0.25))


def test_trainings_and_patients_are_drawn_crossed() -> None:
    generator = np.random.default_rng(7)
    values = generator.normal(size=(3, 10, 2)) + generator.normal(size=(3, 1, 1))
    values[1, 4, 0] = np.nan
    means = []
    for _ in range(4000):
        drawn = values[generator.integers(3, size=3)][:, generator.integers(10, size=10)]
        means.append(np.nanmean(drawn, axis=(0, 1)).mean())
    found = interval_of(values)
    assert found == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.05)
    alone = interval_of(values.mean(axis=0)[:, 1:])
    assert found[1] - found[0] > alone[1] - alone[0]


def test_one_training_is_patients_alone() -> None:
    values = np.random.default_rng(8).normal(size=(15, 2))
    assert bootstrap_interval([values[None]]) == bootstrap_interval([values])


def test_sign_flip_counts_every_flip() -> None:
    generator = np.random.default_rng(9)
    own, other = generator.normal(0.4, 1, size=(2, 5, 2)), generator.normal(0.4, 1, size=(2, 3, 1))
    own[:, 1, 0] = np.nan  # a patient who is in one column only

    def statistic(signs: np.ndarray) -> float:
        first = np.nanmean(own * signs[:5, None], axis=(0, 1))
        second = np.nanmean(other * signs[5:, None], axis=(0, 1))
        return abs(np.concatenate([first, second]).mean())

    flips = [statistic(np.array(signs)) for signs in itertools.product((1, -1), repeat=8)]
    slow_p = fmean(flip >= flips[0] - 1e-12 for flip in flips)
    assert sign_flip([own, other]) == pytest.approx(slow_p)
    assert sign_flip([np.zeros((6, 1))]) is None
    assert sign_flip([np.array([[0.5]])]) == 1
    assert sign_flip([np.full((5, 1), 0.1)]) == 2 / 2**5


def test_sign_flip_of_many_patients_is_the_t_tests() -> None:
    values = np.random.default_rng(10).normal(0.3, 1, size=60)
    assert sign_flip([values[:, None]]) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_the_rule_for_clear() -> None:
    assert is_clear((0.01, 0.03), 0.049)
    assert is_clear((-0.03, -0.01), 0.01)
    assert not is_clear((0.01, 0.03), 0.05)
    assert not is_clear((-0.01, 0.03), 0.01)
    assert not is_clear((0.01, 0.03), None)
    assert not is_clear(None, 0.01)


def test_holm_by_hand() -> None:
    # 4 · 0.005; 3 · 0.01; 2 · 0.03; then 1 · 0.04, no smaller than the one before it
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([None]) == [None]
    assert holm([0.02]) == [0.02]


def test_holm_keeps_false_alarms_rare() -> None:
    generator = np.random.default_rng(6)
    families: list[list[Any]] = [holm(list(generator.uniform(size=10))) for _ in range(2000)]
    assert 0.03 < fmean(min(family) < 0.05 for family in families) < 0.07


def test_small_numbers() -> None:
    assert spread([1.0]) is None
    assert spread([1.0, 2.0, 4.0]) == pytest.approx(stdev([1, 2, 4]))
    assert number(math.nan) is None
    assert number(0.5) == 0.5


def test_limits_of_agreement() -> None:
    """Bland and Altman's own example: bias -2.1 l/min, SD 38.8, limits of -79.7 and 75.5 with 2 SD."""
    first = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    second = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
    differences = np.subtract(first, second)
    found = limits_of_agreement(differences)
    assert found is not None
    assert found.patients == 17
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(38.8, abs=0.05)
    assert found.high + found.low == pytest.approx(2 * found.bias)
    assert found.bias_interval[0] < found.bias < found.bias_interval[1]
    assert found.low_interval[1] < found.bias < found.high_interval[0]
    # the normal approximation of the mean's interval
    width = found.bias_interval[1] - found.bias_interval[0]
    assert width == pytest.approx(2 * 1.96 * 38.8 / 17**0.5, rel=0.1)
    assert limits_of_agreement(differences) == found
    assert limits_of_agreement([1.0, 2.0]) is None
