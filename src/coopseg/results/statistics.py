"""Intervals and tests over patients and trainings, and the one rule by which a difference is clear.

Patients and trainings are resampled, each independently of the other. Copies and phases of a patient are
averaged beforehand: they are not independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any

import numpy as np

RESAMPLES, SEED, LEVEL = 10_000, 2107, 0.95
TRAININGS = 1000  # stream of random numbers beside those of the cohorts
EXACT, FLIPS, ROUNDING = 15, 20_000, 1e-12
CLEAR_P = 0.05
FEWEST = 6  # patients; the p of a sign flip is at least 2 / 2^n, which fewer keep above CLEAR_P


def bootstrap_interval(cohorts: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Returns the 95 % percentile interval of the mean over all columns, from 10,000 resamples.

    cohorts: each (patients, columns), or (trainings, patients, columns) with the same trainings in every
    cohort; NaN where a patient is not in a column. No patient is in two cohorts. Patients are drawn with
    replacement within each cohort. Where there are several trainings, these are drawn too, independently:
    a drawn training counts with every drawn patient, and a drawn patient in all its columns.
    The seed is fixed, so equal scores have equal intervals. None where a cohort has fewer than two patients.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, §13.3.
    """
    stacks = [_by_training(values) for values in cohorts]
    if not stacks or min(stack.shape[1] for stack in stacks) < 2:
        return None
    trainings = _counts(len(stacks[0]), TRAININGS)
    columns = [_resampled_means(stack, trainings, stream) for stream, stack in enumerate(stacks)]
    means = np.concatenate(columns, axis=1).mean(axis=1)
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _by_training(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 3 else values[None]


def _resampled_means(values: np.ndarray, trainings: np.ndarray, stream: int) -> np.ndarray:
    """(resamples, columns): a resample is how often each was drawn, so its mean is a product."""
    patients, known = _counts(values.shape[1], stream), np.isfinite(values)
    sums, seen = (
        np.einsum("rt,trc->rc", trainings, patients @ part) for part in (np.where(known, values, 0), known)
    )
    with np.errstate(invalid="ignore"):  # a resample without any patient of a column has no mean
        return sums / seen


@lru_cache(maxsize=8)
def _counts(number: int, stream: int) -> np.ndarray:
    """(resamples, number): how often each of `number` was drawn."""
    if number == 1:
        return np.ones((RESAMPLES, 1))
    generator = np.random.default_rng([SEED, stream, number])
    drawn = generator.multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    return drawn.astype(np.float64)


@dataclass(frozen=True)
class Agreement:
    """Says how far one measurement lies from another: their mean difference and its limits of agreement.

    Each with its 95 % bootstrap interval over patients.
    """

    patients: int
    bias: float
    low: float
    high: float
    bias_interval: tuple[float, float]
    low_interval: tuple[float, float]
    high_interval: tuple[float, float]


def limits_of_agreement(differences: Sequence[float] | np.ndarray) -> Agreement | None:
    """Returns mean and mean ± 1.96 standard deviations (n − 1) of differences, one a patient.

    None of fewer than three patients. Patients are drawn with replacement 10,000 times for the intervals,
    with a fixed seed. Source: Bland and Altman, Lancet 1986;327:307–310.
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 3:
        return None
    drawn = np.random.default_rng([SEED, len(values)]).integers(0, len(values), (RESAMPLES, len(values)))
    tail = 50 * (1 - LEVEL)
    resampled = np.percentile(_limits(values[drawn]), [tail, 100 - tail], axis=1)
    bias, low, high = _limits(values[None])[:, 0].tolist()
    intervals = [(float(least), float(most)) for least, most in resampled.T]
    return Agreement(len(values), bias, low, high, *intervals)


def _limits(values: np.ndarray) -> np.ndarray:
    """Returns (3, resamples), bias and both limits, of (resamples, patients)."""
    bias, spread = values.mean(1), 1.96 * values.std(1, ddof=1)
    return np.stack([bias, bias - spread, bias + spread])


def sign_flip(cohorts: Sequence[np.ndarray]) -> float | None:
    """Returns the two-sided p of the sign-flip test of the mean over all columns of paired differences.

    cohorts: as for `bootstrap_interval`; the trainings of a patient are averaged first. Under the null
    hypothesis a patient's differences have either sign, in all its columns together. Every flip is counted
    up to 15 patients, 20,000 random ones above. None where every difference is zero: the two rows are then
    one and the same, and nothing is tested.
    Source: Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005, §3.2.
    """
    averaged = [over_trainings(_by_training(values)) for values in cohorts]
    columns = sum(values.shape[1] for values in averaged)
    # a column's mean is a sum over its patients, so that what a patient adds to the whole is one number
    added = np.concatenate(
        [np.nansum(values / np.isfinite(values).sum(0), axis=1) / columns for values in averaged]
    )
    if not added.any():
        return None
    seen, patients = abs(added.sum()) - ROUNDING * np.abs(added).sum(), len(added)
    if patients <= EXACT:
        bits = np.arange(2 ** (patients - 1))[:, None] >> np.arange(patients)  # the last keeps its sign
        return float(np.mean(np.abs((1 - 2 * (bits & 1)) @ added) >= seen))
    flips = np.random.default_rng([SEED, FLIPS]).integers(0, 2, size=(FLIPS, patients)) * 2 - 1
    return float((1 + np.sum(np.abs(flips @ added) >= seen)) / (1 + FLIPS))


def over_trainings(values: np.ndarray) -> np.ndarray:
    """Averages (trainings, patients, columns) over the trainings that have a patient; NaN where none has."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(0) / known.sum(0)


def is_clear(interval: tuple[float, float] | None, p_holm: float | None) -> bool:
    """Tells whether a difference is clear: its interval leaves out zero and its corrected p is below 0.05.

    This is the one rule of the package, for tables, reports and sentences alike. With one training the
    interval is over patients only, and says nothing of the chance between trainings.
    """
    low, high = interval or (0.0, 0.0)
    return p_holm is not None and p_holm < CLEAR_P and (low > 0 or high < 0)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Returns p values corrected for their number (Holm 1979), in the order given; None is left out."""
    family = sorted((value, place) for place, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, place) in enumerate(family):
        highest = max(highest, min(1.0, (len(family) - rank) * value))
        corrected[place] = highest
    return corrected


def spread(values: Sequence[float] | np.ndarray) -> float | None:
    """Standard deviation (n − 1); None for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def number(value: float) -> float | None:
    """A plain number for JSON; None for NaN."""
    return None if math.isnan(value) else float(value)


def as_json(value: object) -> Any:
    """Turns frozen dataclasses into plain JSON types; a trailing underscore of a field's name goes."""
    if is_dataclass(value):
        return {field.name.rstrip("_"): as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(entry) for key, entry in value.items()}
    return [as_json(entry) for entry in value] if isinstance(value, list | tuple) else value
