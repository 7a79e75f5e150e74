"""How every row differs from each standard training on the same patients, draws and seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from coopseg.benchmark.cells import shared_scores
from coopseg.benchmark.collected import Collected
from coopseg.benchmark.columns import WITHOUT_SPIKES, Column, cohorts, column_of
from coopseg.benchmark.grid import BASELINES
from coopseg.results.paired import Difference, Wide, correct, difference, minus, spread_out, stack
from coopseg.results.patients import MEAN

CHANGE = {"own": ("intra",), "corrupted": ("corrupted",), "other": ("other",), "out": ("corrupted", "other")}
SEEN = "without_spikes"  # of a line of `change`, beside those of CHANGE


def differences(collected: Collected, columns: Sequence[Column], budget: str) -> list[Difference]:
    """Row minus baseline, same head, class and column, over the patients, draws and seeds both have.

    against: the baseline. Every row, the other baseline too, is held against each of BASELINES. mean,
    interval (95 % bootstrap over patients, and over trainings where there are several), n (patients),
    trainings; p (sign-flip test over patients, two-sided; None where every difference is zero) and p_holm,
    corrected over the rows compared with one baseline within one column, head and class: `family` is their
    number. clear: see `coopseg.results.statistics.is_clear`. draws: those that both have.
    """
    found = [
        entry
        for against in BASELINES
        for row in collected.rows
        if row != against
        for entry in _differences(collected, columns, row, budget, against)
    ]
    correct(found, family=("against", "column", "head", "class"))
    return found


def _differences(
    collected: Collected, columns: Sequence[Column], row: str, budget: str, against: str
) -> Iterator[Difference]:
    of = ["head", "class"]
    trainings: dict[Any, list[Wide]] = defaultdict(list)
    for ours, theirs in shared_scores(collected, row, budget, against=against):
        baseline = dict(list(theirs.groupby(of, sort=False)))
        for key, own in ours.groupby(of, sort=False):
            if key in baseline:
                trainings[key].append(minus(spread_out(own, "patient"), spread_out(baseline[key], "patient")))
    name = {
        "budget": budget,
        "against": against,
        "row": row,
        "draws": _draws(collected, row, budget, against),
    }
    for key, found in trainings.items():
        wide = stack(found)
        at = dict(zip(of, key, strict=True))
        for column in columns:
            if set(column["datasets"]) <= set(wide.datasets):
                found_at = difference(cohorts(wide, column, columns))
                yield {**name, **at, "column": column["name"], **found_at}


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
