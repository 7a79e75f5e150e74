"""How every row differs from each standard training on the same patients, draws and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from coopseg.benchmark.cells import shared_scores
from coopseg.benchmark.collected import Collected
from coopseg.benchmark.columns import WITHOUT_SPIKES, Column, cohorts, column_of, minus, spread_out
from coopseg.benchmark.grid import BASELINES
from coopseg.benchmark.statistics import bootstrap_interval, holm, number, signed_rank
from coopseg.evaluation.tables import MEAN

CHANGE = {"own": ("intra",), "corrupted": ("corrupted",), "other": ("other",), "out": ("corrupted", "other")}
SEEN = "without_spikes"  # of a line of `change`, beside those of CHANGE

Difference = dict[str, Any]


def differences(collected: Collected, columns: Sequence[Column], budget: str) -> list[Difference]:
    """Row minus baseline, same head, class and column, over the patients both have.

    against: the baseline. Every row, the other baseline too, is held against each of BASELINES. mean,
    interval (95 % bootstrap, over patients), n; p (Wilcoxon signed-rank, two-sided; None for an average, and
    where every difference is zero) and p_holm, corrected over the rows compared with one baseline within one
    column, head and class: `family` is their number. draws: those that both have.
    """
    found = [
        entry
        for against in BASELINES
        for row in collected.rows
        if row != against
        for entry in _differences(collected, columns, row, budget, against)
    ]
    for key in dict.fromkeys(_family(entry) for entry in found):
        family = [entry for entry in found if _family(entry) == key]
        corrected = holm([entry["p"] for entry in family])
        tested = sum(entry["p"] is not None for entry in family)
        for entry, value in zip(family, corrected, strict=True):
            entry |= {"p_holm": value, "family": tested if entry["p"] is not None else None}
    return found


def _family(entry: Difference) -> tuple[str, ...]:
    return entry["against"], entry["column"], entry["head"], entry["class"]


def _differences(
    collected: Collected, columns: Sequence[Column], row: str, budget: str, against: str
) -> Iterator[Difference]:
    ours, theirs = shared_scores(collected, row, budget, against=against)
    if not len(ours) or not len(theirs):
        return
    of = ["head", "class"]
    baseline = dict(list(theirs.groupby(of, sort=False)))
    name = {
        "budget": budget,
        "against": against,
        "row": row,
        "draws": _draws(collected, row, budget, against),
    }
    for key, own in ours.groupby(of, sort=False):
        if key in baseline:
            wide = minus(spread_out(own, "patient"), spread_out(baseline[key], "patient"))
            at = dict(zip(of, key, strict=True))
            for column in columns:
                if set(column["datasets"]) <= set(wide.datasets):
                    yield name | at | _difference(cohorts(wide, column, columns), column)


def _difference(parts: Sequence[np.ndarray], column: Column) -> Difference:
    means = np.concatenate([np.nanmean(part, axis=0) for part in parts])
    return {
        "column": column["name"],
        "mean": number(means.mean()),
        "interval": bootstrap_interval(parts),
        "n": sum(map(len, parts)),
        "p": None if column["average"] else signed_rank(parts[0].ravel()),
    }


def _draws(collected: Collected, row: str, budget: str, against: str) -> list[str]:
    jobs = {name: collected.jobs_of(name, budget) for name in (row, against)}
    done = {name: [entry for entry in own if entry.state == "finished"] for name, own in jobs.items()}
    trained = {(entry.job.draw, entry.job.seed) for entry in done[against]}
    if not any(entry.is_predictor for entry in done[row]):
        trained &= {(entry.job.draw, entry.job.seed) for entry in done[row]}
    return sorted({draw for draw, _ in trained})


def change(found: Sequence[Difference], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """For each baseline, row and head the difference on clean own-site scans beside those out of domain.

    own, corrupted, other, out (corrupted and other together) and without_spikes (all columns but RandSpike):
    the entry of `differences` for the column, or average, over these data sets, class mean; None where there
    is none.
    """
    names = {key: column_of(columns, domains) for key, domains in CHANGE.items()} | {SEEN: WITHOUT_SPIKES}
    listed: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in found:
        if entry["class"] == MEAN:
            of = {key: entry[key] for key in ("against", "row", "head")}
            line = listed.setdefault(tuple(of.values()), of | dict.fromkeys(names))
            line |= {key: entry for key, name in names.items() if name == entry["column"]}
    return list(listed.values())
