"""Two methods on the same patients: their difference, how sure it is, and whether it is clear."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from coopseg.results.statistics import bootstrap_interval, holm, is_clear, number, over_trainings, sign_flip

Difference = dict[str, Any]


@dataclass(frozen=True)
class Wide:
    """Scores by row (patients or draws) and data set, NaN where there is none.

    values: (rows, data sets), or (trainings, rows, data sets).
    """

    rows: np.ndarray
    datasets: np.ndarray
    values: np.ndarray

    def of(self, datasets: Sequence[str]) -> np.ndarray:
        """The values of these data sets, in their order."""
        return self.values[..., [self.datasets.tolist().index(name) for name in datasets]]


def spread_out(scores: pd.DataFrame, by: str) -> Wide:
    """Dice by patient or draw and data set; each pair has one line at most."""
    rows, at = np.unique(scores[by].to_numpy(str), return_inverse=True)
    datasets, place = np.unique(scores["dataset"].to_numpy(str), return_inverse=True)
    values = np.full((len(rows), len(datasets)), np.nan)
    values[at, place] = scores["dice"].to_numpy(float)
    return Wide(rows, datasets, values)


def minus(ours: Wide, theirs: Wide) -> Wide:
    """The difference, over the rows and data sets that both have."""
    rows, a, b = np.intersect1d(ours.rows, theirs.rows, return_indices=True)
    datasets, c, d = np.intersect1d(ours.datasets, theirs.datasets, return_indices=True)
    return Wide(rows, datasets, ours.values[np.ix_(a, c)] - theirs.values[np.ix_(b, d)])


def stack(trainings: Sequence[Wide]) -> Wide:
    """Several trainings as one: all their rows, NaN where one has none, and the data sets that all have."""
    rows = np.unique(np.concatenate([wide.rows for wide in trainings]))
    datasets = reduce(np.intersect1d, [wide.datasets for wide in trainings])
    values = np.full((len(trainings), len(rows), len(datasets)), np.nan)
    for own, wide in zip(values, trainings, strict=True):
        own[np.searchsorted(rows, wide.rows)] = wide.of(datasets.tolist())
    return Wide(rows, datasets, values)


def present(values: np.ndarray) -> np.ndarray:
    """(patients,): whether there is any value."""
    known = np.isfinite(values).any(axis=-1)
    return known if known.ndim == 1 else known.any(axis=0)


def difference(cohorts: Sequence[np.ndarray]) -> Difference:
    """Returns what paired differences say: mean, interval, n, trainings and p.

    cohorts: each (trainings, patients, columns), NaN where a patient is not in a column. mean: over the
    columns, each the mean over its patients. interval: see `bootstrap_interval`. n: patients. p: see
    `sign_flip`.
    """
    patients = [over_trainings(part) for part in cohorts]
    means = np.concatenate([np.nanmean(part, axis=0) for part in patients])
    return {
        "mean": number(means.mean()),
        "interval": bootstrap_interval(cohorts),
        "n": sum(map(len, patients)),
        "trainings": len(cohorts[0]),
        "p": sign_flip(cohorts),
    }


def correct(found: Iterable[Difference], *, family: Sequence[str]) -> None:
    """Adds p_holm, `family` (the number of tests it is corrected for) and `clear` to each difference.

    family: the keys of a difference whose values name the tests that are corrected together.
    """
    families: dict[tuple[Any, ...], list[Difference]] = {}
    for entry in found:
        families.setdefault(tuple(entry[key] for key in family), []).append(entry)
    for entries in families.values():
        tested = sum(entry["p"] is not None for entry in entries)
        for entry, value in zip(entries, holm([entry["p"] for entry in entries]), strict=True):
            entry |= {"p_holm": value, "family": tested if entry["p"] is not None else None}
            entry["clear"] = is_clear(entry["interval"], value)
