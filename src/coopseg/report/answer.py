"""The question of a report and its answer: one sentence, and a line for each method and data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from coopseg.inference.predictor import HEADS
from coopseg.report.scores import Method
from coopseg.report.sources import Run
from coopseg.results.paired import Difference, Wide, correct, difference, minus, present, spread_out, stack
from coopseg.results.patients import MEAN, per_patient
from coopseg.results.statistics import CLEAR_P

LISTED = 3  # methods that are named one by one
OUTCOMES = {"higher": "above", "lower": "below", "open": "open", "too few": "too few patients to tell"}
ONE_TRAINING = "With one training of a method, the chance between trainings is not in these figures."


def find_baseline(methods: Sequence[Method]) -> Method:
    """Returns what the others are compared with: the method trained as "standard", else the first given."""
    return next((m for m in methods if m.runs[0].record["settings"]["method"] == "standard"), methods[0])


def ask(methods: Sequence[Method]) -> str:
    """Returns the question, one sentence."""
    rest = "on scans unlike those it was trained on?"
    if len(methods) == 1:
        return f"How well does {methods[0].name} hold {rest}"
    baseline = find_baseline(methods)
    others = [method.name for method in methods if method is not baseline]
    if len(others) == 1:
        return f"Does {others[0]} hold better than {baseline.name} {rest}"
    if len(others) > LISTED:
        return f"Which of {len(others)} other methods holds better than {baseline.name} {rest}"
    return f"Which of {', '.join(others)} holds better than {baseline.name} {rest}"


def answer(methods: Sequence[Method], columns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns a verdict, a note on what limits it, and the comparisons on which it rests.

    comparisons: see `compare`. Unlike things are never added up: every data set has a line of its own, the
    training domain like the others.
    """
    if not columns:
        return {"verdict": "Nothing has been evaluated yet.", "note": "", "comparisons": []}
    if len(methods) == 1:
        alone = "One method alone: the figures below say how much it loses, not whether another loses less."
        return {"verdict": alone, "note": "", "comparisons": []}
    baseline = find_baseline(methods)
    found = compare(methods, baseline, [column["name"] for column in columns])
    if not found:
        nothing = "No two methods were evaluated on the same patients: nothing to compare."
        return {"verdict": nothing, "note": "", "comparisons": []}
    once = any(entry["trainings"] == 1 for entry in found)
    return {"verdict": _verdict(found), "note": ONE_TRAINING if once else "", "comparisons": found}


def compare(methods: Sequence[Method], baseline: Method, datasets: Sequence[str]) -> list[Difference]:
    """Returns each method minus the baseline on each data set, by the last head that both have.

    A line has method, baseline, head, dataset, what `coopseg.results.paired.difference` and `correct` give,
    and outcome: "higher" or "lower" if the difference is clear, "too few" where no difference between so few
    patients could be, else "open". Holm corrects for the methods compared on one data set.
    """
    found = [
        {"method": method.name, "baseline": baseline.name, **entry}
        for method in methods
        if method is not baseline
        for entry in _differences(method, baseline, datasets)
    ]
    correct(found, family=("dataset",))
    for entry in found:
        entry["outcome"] = _outcome(entry)
    return found


def _outcome(entry: Difference) -> str:
    if entry["clear"]:
        return "higher" if entry["mean"] > 0 else "lower"
    least = 2 / 2 ** entry["n"] * (entry["family"] or 1)  # the smallest corrected p of so few patients
    return "too few" if least >= CLEAR_P else "open"


def _differences(method: Method, baseline: Method, datasets: Sequence[str]) -> Iterator[Difference]:
    for head in reversed(HEADS):
        pairs = [
            (ours, theirs)
            for ours, theirs in _trainings(method, baseline)
            if all(head in {row["head"] for run in runs for row in run.rows} for runs in (ours, theirs))
        ]
        if pairs:
            wide = stack([minus(_scores(ours, head), _scores(theirs, head)) for ours, theirs in pairs])
            for name in datasets:
                if name in wide.datasets and len(values := _known(wide, name)):
                    yield {"head": head, "dataset": name, **difference([values])}
            return


def _known(wide: Wide, dataset: str) -> Any:
    """(trainings, patients, 1): the patients of a data set."""
    values = wide.of([dataset])
    return values[:, present(values)]


def _trainings(method: Method, baseline: Method) -> list[tuple[list[Run], list[Run]]]:
    """Pairs the runs with the same training patients and seed; without any such pair all runs are one."""
    ours, theirs = ({_key(run): run for run in one.runs} for one in (method, baseline))
    shared = [key for key in ours if key in theirs]
    unambiguous = len(ours) == len(method.runs) and len(theirs) == len(baseline.runs)
    if shared and unambiguous:
        return [([ours[key]], [theirs[key]]) for key in shared]
    return [(list(method.runs), list(baseline.runs))]


def _key(run: Run) -> tuple[Any, ...]:
    return tuple(run.record["split"]["train"]), run.record["settings"]["seed"]


def _scores(runs: Sequence[Run], head: str) -> Wide:
    """Foreground Dice of each patient and data set: volumes averaged first, then runs."""
    rows = [row for run in runs for row in run.rows if row["head"] == head]
    scores = per_patient(pd.DataFrame(rows))
    chosen = scores[(scores["group"] == "all") & (scores["class"] == MEAN)]
    return spread_out(chosen, "patient")


def _verdict(found: Sequence[Difference]) -> str:
    names = list(dict.fromkeys(entry["method"] for entry in found))
    names.sort(key=lambda name: -sum(_score(entry) for entry in found if entry["method"] == name))
    said = [_counts([entry for entry in found if entry["method"] == name]) for name in names[:LISTED]]
    more = f"; and {len(names) - LISTED} more below" if len(names) > LISTED else ""
    return f"Against {found[0]['baseline']}, {'; '.join(said)}{more}."


def _score(entry: Difference) -> int:
    return {"higher": 1, "lower": -1}.get(entry["outcome"], 0)


def _counts(own: Sequence[Difference]) -> str:
    """Returns "coopseg (FTN): above on 2 of 4 data sets (RandBias, RandSpike), below on 1 (ACDC)"."""
    parts: list[str] = []
    for outcome, word in OUTCOMES.items():
        if listed := [entry for entry in own if entry["outcome"] == outcome]:
            where = ", ".join(entry["dataset"] for entry in listed)
            of = f" of {len(own)} data sets" if not parts else ""
            fewest = f"; n = {min(entry['n'] for entry in listed)}" if outcome == "too few" else ""
            parts.append(f"{word} on {len(listed)}{of} ({where}{fewest})")
    return f"{own[0]['method']} ({own[0]['head']}): {', '.join(parts)}"
