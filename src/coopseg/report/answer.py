"""The question of a report and its answer in words, which say no more than the scores bear."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from coopseg.inference.predictor import HEADS
from coopseg.report.scores import MEAN, Method, average_cell

GROUPS = {"corrupted": "corrupted scans", "other": "other sites"}
CLEAR = 2  # standard errors that a paired difference must exceed
FEWEST = 5  # patients from which a paired difference is called clear
LISTED = 3  # methods that are named one by one
CAUTION = {  # by the fewest runs of a method
    1: "A method with one training says nothing about chance between trainings, so take this as a hint.",
    2: "Two runs of a method say little about chance between trainings.",
}


def find_baseline(methods: Sequence[Method]) -> Method:
    """What the others are compared with: the method trained as "standard", else the first given."""
    return next((m for m in methods if m.runs[0].record["settings"]["method"] == "standard"), methods[0])


def ask(methods: Sequence[Method]) -> str:
    """The question, one sentence."""
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
    """A verdict, the sentences it rests on, and the comparisons with every number of the verdict."""
    if not columns:
        return {"verdict": "Nothing has been evaluated yet.", "sentences": [], "comparisons": []}
    groups = {
        group: [column["name"] for column in columns if column["domain"] == group]
        for group in ("intra", *GROUPS)
    }
    baseline = find_baseline(methods)
    found = [
        compare(methods, baseline, group=group, datasets=groups[group]) for group in GROUPS if groups[group]
    ]
    compared = {entry[role] for entry in found for role in ("rival", "baseline") if role in entry}
    told = [method for method in methods if method.name in compared or len(methods) <= LISTED]
    fewest = min((len(method.runs) for method in told if method.name in compared), default=0)
    sentences = [CAUTION.get(fewest, "")]
    for entry in found:
        sentences.append(_sentence(entry))
        if any(method.head != HEADS[0] for method in told):
            sentences.append(_means("By the FTN alone", told, entry["datasets"], HEADS[0]))
    if groups["intra"]:
        sentences.append(_means("For comparison, on the training domain", told, groups["intra"]))
    sentences = [sentence for sentence in sentences if sentence]
    return {"verdict": _verdict(methods, found), "sentences": sentences, "comparisons": found}


def compare(
    methods: Sequence[Method], baseline: Method, *, group: str, datasets: Sequence[str]
) -> dict[str, Any]:
    """The best method other than the baseline against the baseline, averaged over a group of data sets.

    Where both have two runs or more, a difference is clear if the ± ranges over runs do not overlap.
    Otherwise it is judged over patients, each with its mean over the data sets: clear if it exceeds two
    standard errors of the paired difference and there are five patients or more.
    """
    cells = {m.name: average_cell(m, datasets, m.head, of=MEAN, measure="dice") for m in methods}
    known = {name: cell for name, cell in cells.items() if cell["state"] == "value"}
    entry: dict[str, Any] = {"group": group, "datasets": list(datasets), "means": known, "outcome": "unknown"}
    entry["heads"] = {method.name: method.head for method in methods}
    rivals = [m for m in methods if m is not baseline and m.name in known]
    if not rivals or baseline.name not in known:
        return entry
    rival = max(rivals, key=lambda method: known[method.name]["mean"])
    ours, theirs = known[rival.name], known[baseline.name]
    difference = ours["mean"] - theirs["mean"]
    entry |= {"rival": rival.name, "rivals": len(rivals), "baseline": baseline.name, "difference": difference}
    if ours["spread"] is not None and theirs["spread"] is not None:
        entry["over"] = "runs"
        clear = abs(difference) > ours["spread"] + theirs["spread"]
    else:
        entry |= {"over": "patients", **_paired(rival, baseline, datasets)}
        enough = entry["patients"] >= FEWEST
        clear = enough and abs(entry["paired_mean"]) > CLEAR * entry["paired_sd"] / entry["patients"] ** 0.5
    entry["outcome"] = ("higher" if difference > 0 else "lower") if clear else "unclear"
    return entry


def patient_means(method: Method, datasets: Sequence[str]) -> dict[str, float]:
    """Foreground Dice of each patient: mean over classes, volumes, data sets and runs."""
    scores: dict[str, list[float]] = {}
    for run in method.runs:
        for row in run.rows:
            if row["dataset"] in datasets and row["head"] == method.head:
                scores.setdefault(row["patient"], []).append(row["dice"])
    return {patient: fmean(values) for patient, values in scores.items()}


def _paired(rival: Method, baseline: Method, datasets: Sequence[str]) -> dict[str, Any]:
    ours, theirs = patient_means(rival, datasets), patient_means(baseline, datasets)
    differences = [ours[patient] - theirs[patient] for patient in ours if patient in theirs]
    mean = fmean(differences) if differences else 0.0
    sd = stdev(differences) if len(differences) > 1 else 0.0
    return {"patients": len(differences), "paired_mean": mean, "paired_sd": sd}


def _verdict(methods: Sequence[Method], found: Sequence[dict[str, Any]]) -> str:
    outcomes = [entry["outcome"] for entry in found if entry["outcome"] != "unknown"]
    if len(methods) == 1:
        return "One method alone: the figures below say how much it loses, not whether another loses less."
    if not outcomes:
        return "No two methods were evaluated on the same corrupted scans or other sites: nothing to compare."
    once = any(entry.get("over") == "patients" for entry in found)
    where = "In these trainings" if once else "Over these runs"
    if set(outcomes) == {"higher"}:
        text = f"{where}, yes."
    elif set(outcomes) == {"lower"}:
        text = f"{where}, no: it is worse."
    elif set(outcomes) == {"unclear"}:
        text = f"{where}, this cannot be told apart from chance."
    else:
        said = {"higher": "yes", "lower": "no, it is worse", "unclear": "not to be told from chance"}
        parts = [f"on {GROUPS[e['group']]} {said[e['outcome']]}" for e in found if e["outcome"] in said]
        text = f"{where}, it depends: {'; '.join(parts)}."
    return text


def _sentence(entry: dict[str, Any]) -> str:
    count = len(entry["datasets"])
    where = f"On {GROUPS[entry['group']]} ({count} data set{'s' * (count > 1)})"
    if entry["outcome"] == "unknown":
        means = "; ".join(f"{name} {_value(cell)}" for name, cell in entry["means"].items())
        return f"{where} the mean Dice is {means}." if means else f"{where} no method has all data sets."
    rival, baseline = entry["rival"], entry["baseline"]
    best = f", the best of {entry['rivals']} against {baseline}," if entry["rivals"] > 1 else ""
    means = f"{rival} ({entry['heads'][rival]}){best} reaches Dice {_value(entry['means'][rival])} and "
    means += f"{baseline} ({entry['heads'][baseline]}) {_value(entry['means'][baseline])}"
    return f"{where} {means}: a difference of {_signed(entry['difference'])}, {_reason(entry)}."


def _reason(entry: dict[str, Any]) -> str:
    clear = entry["outcome"] != "unclear"
    if entry["over"] == "runs":
        return f"{'more' if clear else 'not more'} than the spread over runs of both together"
    patients = f"{entry['patients']} patient{'s' * (entry['patients'] != 1)}"
    if entry["patients"] < FEWEST:
        return f"over {patients}, too few to tell it from chance between patients"
    spread = f"{_signed(entry['paired_mean'])}\u00a0±\u00a0{entry['paired_sd']:.3f}"
    words = "more" if clear else "not more"
    return f"by patient {spread} (n = {entry['patients']}), {words} than chance between patients explains"


def _means(where: str, methods: Sequence[Method], datasets: Sequence[str], head: str = "") -> str:
    cells = {m.name: average_cell(m, datasets, head or m.head, of=MEAN, measure="dice") for m in methods}
    said = [f"{name} {_value(cell)}" for name, cell in cells.items() if cell["state"] == "value"]
    return f"{where}: {'; '.join(said)}." if said else ""


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _value(cell: dict[str, Any]) -> str:
    runs = len(cell["runs"])
    if cell["spread"] is None:
        return f"{cell['mean']:.3f} (one run)"
    return f"{cell['mean']:.3f}\u00a0±\u00a0{cell['spread']:.3f} ({runs} runs)"
