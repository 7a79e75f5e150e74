"""What a score means over patients and trainings: means, intervals and tests. n is patients throughout.

Copies, phases, seeds and draws of a patient are averaged before anything else is computed: they are not
independent of each other, patients are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from coopseg.evaluation.tables import FAILURES, MEAN

RESAMPLES, SEED, LEVEL = 10_000, 2107, 0.95
BELOW = tuple(f"dice_below_{limit}" for limit in FAILURES)
MEASURES = ("dice", *BELOW, "hd95", "assd", "distance_missing")
GROUPS = ("all", "phase", "vendor", "site")


def per_patient(rows: pd.DataFrame) -> pd.DataFrame:
    """Copies and phases averaged: a line for each data set, head, class, group and patient.

    rows: of `coopseg.evaluation.evaluate`. Class "mean" is added: per volume the mean over its foreground
    classes, so that a volume fails by its mean. Groups are "all" volumes (value ""), and each phase, vendor
    and site (vendor/centre) that is named. Adds to the rows' measures dice_below_0.5 and dice_below_0.1
    (shares of volumes) and distance_missing (share in which truth or prediction was empty, not both).
    """
    rows = rows.astype({"dice": float, "hd95": float, "assd": float})
    rows["distance_missing"] = (rows["distance"] == "one empty").astype(float)
    volume = ["dataset", "case", "patient", "phase", "site", "copy", "head"]
    means = rows.groupby(volume, sort=False)[["dice", "hd95", "assd", "distance_missing"]].mean()
    frame = pd.concat([means.reset_index().assign(**{"class": MEAN}), rows], ignore_index=True)
    for limit, name in zip(FAILURES, BELOW, strict=True):
        frame[name] = (frame["dice"] < limit).astype(float)
    frame = frame.assign(all="", vendor=frame["site"].str.split("/").str[0])
    parts = []
    for group in GROUPS:
        named = frame if group == "all" else frame[frame[group] != ""]
        keys = ["dataset", "head", "class", group, "patient"]
        part = named.groupby(keys, sort=False)[list(MEASURES)].mean().reset_index()
        parts.append(part.rename(columns={group: "value"}).assign(group=group))
    return pd.concat(parts, ignore_index=True)


def mean_over(scores: pd.DataFrame, column: str) -> pd.DataFrame:
    """The measures averaged over one column, which goes; what is missing (NaN) is passed over."""
    keys = [name for name in scores.columns if name not in (*MEASURES, column)]
    return scores.groupby(keys, sort=False)[list(MEASURES)].mean().reset_index()


def bootstrap_interval(cohorts: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """95 % percentile interval of the mean over all columns, 10,000 resamples of patients.

    cohorts: each (patients, columns), NaN where a patient is not in a column; no patient is in two cohorts.
    Patients are drawn with replacement within each cohort, and a drawn patient counts in all its columns.
    The seed is fixed, so equal scores have equal intervals. None where a cohort has fewer than two patients.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, §13.3.
    """
    if not cohorts or min(map(len, cohorts)) < 2:
        return None
    columns = [_resampled_means(values, stream) for stream, values in enumerate(cohorts)]
    means = np.concatenate(columns, axis=1).mean(axis=1)
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _resampled_means(values: np.ndarray, stream: int) -> np.ndarray:
    """(resamples, columns): a resample is how often each patient was drawn, so its mean is a product."""
    counts = _counts(len(values), stream)
    known = np.isfinite(values)
    if known.all():
        return counts @ values / len(values)
    with np.errstate(invalid="ignore"):  # a resample without any patient of a column has no mean
        return (counts @ np.where(known, values, 0)) / (counts @ known)


@lru_cache(maxsize=8)
def _counts(patients: int, stream: int) -> np.ndarray:
    generator = np.random.default_rng([SEED, stream, patients])
    drawn = generator.multinomial(patients, np.full(patients, 1 / patients), size=RESAMPLES)
    return drawn.astype(np.float64)


def signed_rank(differences: np.ndarray) -> float | None:
    """Two-sided p of the Wilcoxon signed-rank test, one difference a patient; zeros are dropped.

    None where every difference is zero: the two rows are then one and the same, and nothing is tested.
    """
    if not np.any(differences):
        return None
    return float(wilcoxon(differences).pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for their number (Holm 1979), in the order given; None is not in the family."""
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
