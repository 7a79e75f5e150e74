"""How every row differs from each baseline on the same patients and trainings, and whether that is clear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coopseg.results.columns import (
    WITHOUT_SPIKES,
    Column,
    Wide,
    column_of,
    measured_columns,
    minus,
    spread_out,
    stack,
)
from coopseg.results.patients import MEAN
from coopseg.results.statistics import (
    CLEAR_P,
    bootstrap_interval,
    holm,
    is_clear,
    over_trainings,
    sign_flip,
)
from coopseg.results.study import Study

CHANGE = {
    "own": ("intra",),
    "corrupted": ("corrupted",),
    "other": ("other",),
    "out": ("corrupted", "other"),
}
OF = ["head", "class"]


@dataclass(frozen=True)
class Difference:
    """Row minus the baseline `against`: same head, class and column, on the patients and trainings of both.

    mean: over the data sets of the column, each the mean over its patients. interval: see
    `bootstrap_interval`. n: patients. trainings: those that are paired. p: see `sign_flip`. p_holm: corrected
    over the `family` tests of rows held against one baseline within one column, head and class; None where
    nothing is tested. clear: see `is_clear`. draws: those that both have.
    """

    budget: str
    against: str
    row: str
    head: str
    class_: str
    column: str
    draws: tuple[str, ...]
    mean: float
    interval: tuple[float, float] | None
    n: int
    trainings: int
    p: float | None
    p_holm: float | None = None
    family: int | None = None
    clear: bool = False

    @property
    def outcome(self) -> str:
        """Says "higher" or "lower" if clear, "too few" if so few patients could show nothing, else "open"."""
        if self.clear:
            return "higher" if self.mean > 0 else "lower"
        least = 2 / 2**self.n * (self.family or 1)  # the smallest corrected p of so few patients
        return "too few" if least >= CLEAR_P else "open"


@dataclass(frozen=True)
class Change:
    """What a row brings on clean scans of the own site, beside what it brings out of domain; None if unknown.

    out: corrupted and other sites together. without_spikes: all columns but RandSpike.
    """

    against: str
    row: str
    head: str
    own: Difference | None
    corrupted: Difference | None
    other: Difference | None
    out: Difference | None
    without_spikes: Difference | None


def find_differences(study: Study, columns: Sequence[Column], budget: str) -> list[Difference]:
    """Holds every row, the other baselines too, against each baseline."""
    found = (
        entry
        for against in study.baselines
        for row in study.rows
        if row.name != against
        for entry in _differences(study, columns, row.name, budget, against)
    )
    return correct(found)


def _differences(
    study: Study, columns: Sequence[Column], row: str, budget: str, against: str
) -> Iterator[Difference]:
    trainings: dict[Any, list[Wide]] = defaultdict(list)
    for ours, theirs in study.pairs(row, against, budget):
        baseline = dict(list(theirs.groupby(OF, sort=False)))
        for key, own in ours.groupby(OF, sort=False):
            if key in baseline:
                pair = spread_out(own, "patient"), spread_out(baseline[key], "patient")
                trainings[key].append(minus(*pair))
    draws = study.shared_draws(row, against, budget)
    for (head, name), found in trainings.items():
        for column, parts in measured_columns(stack(found), columns):
            yield difference(
                parts, budget=budget, against=against, row=row, head=head, class_=name,
                column=column.name, draws=draws,
            )  # fmt: skip


def difference(cohorts: Sequence[np.ndarray], **names: str | tuple[str, ...]) -> Difference:
    """Returns what paired differences say, before any correction.

    cohorts: each (trainings, patients, data sets), NaN where a patient is not in one. names: the fields of a
    Difference that are not computed.
    """
    patients = [over_trainings(part) for part in cohorts]
    means = np.concatenate([np.nanmean(part, axis=0) for part in patients])
    return Difference(
        **names,  # type: ignore[arg-type]
        mean=float(means.mean()),
        interval=bootstrap_interval(cohorts),
        n=sum(map(len, patients)),
        trainings=len(cohorts[0]),
        p=sign_flip(cohorts),
    )


def correct(found: Iterable[Difference]) -> list[Difference]:
    """Adds p_holm, family and clear to each difference, in the order given."""
    entries = list(found)
    families: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, entry in enumerate(entries):
        families[entry.budget, entry.against, entry.column, entry.head, entry.class_].append(place)
    for places in families.values():
        values = [entries[place].p for place in places]
        tested = sum(value is not None for value in values)
        for place, value in zip(places, holm(values), strict=True):
            entry = entries[place]
            clear = is_clear(entry.interval, value)
            family = None if value is None else tested
            entries[place] = replace(entry, p_holm=value, family=family, clear=clear)
    return entries


def find_changes(found: Sequence[Difference], columns: Sequence[Column]) -> list[Change]:
    """Returns a line for each baseline, row and head: its differences for the widest columns, class mean."""
    names = {key: column_of(columns, domains) for key, domains in CHANGE.items()}
    names["without_spikes"] = WITHOUT_SPIKES
    listed: dict[tuple[str, str, str], dict[str, Difference]] = defaultdict(dict)
    for entry in found:
        if entry.class_ == MEAN:
            listed[entry.against, entry.row, entry.head][entry.column] = entry
    return [
        Change(against, row, head, **{name: own.get(column or "") for name, column in names.items()})
        for (against, row, head), own in listed.items()
    ]
