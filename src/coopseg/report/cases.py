"""Single volumes: dots for the plot, the worst and the slowest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Any

from coopseg.report.scores import MEAN, Method, score_cell
from coopseg.report.sources import Run

MOST_VOLUMES = 300  # of one run and data set; above it a dot is a patient
LISTED = 10


def volumes(run: Run, head: str) -> list[dict[str, Any]]:
    """The volumes of a run: what they are, Dice of each class and their mean, HD95 in mm, seconds."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in run.rows:
        if row["head"] == head:
            grouped[row["dataset"], row["case"]].append(row)
    return [_volume(run, rows) for rows in grouped.values()]


def _volume(run: Run, rows: list[dict[str, Any]]) -> dict[str, Any]:
    first = rows[0]
    distances = [row["hd95"] for row in rows if row["hd95"] is not None]
    return {
        "method": run.method,
        "run": run.label,
        **{key: first[key] for key in ("dataset", "case", "patient", "phase", "site", "copy", "head")},
        "dice": fmean(row["dice"] for row in rows),
        "classes": {row["class"]: row["dice"] for row in rows},
        "hd95": fmean(distances) if distances else None,
        "empty": [row["class"] for row in rows if row["distance"] == "one empty"],
        "seconds": first.get("seconds"),
    }


def all_volumes(methods: Sequence[Method]) -> dict[str, list[dict[str, Any]]]:
    """The volumes of all runs of each method, by the head that speaks for it."""
    return {m.name: [volume for run in m.runs for volume in volumes(run, m.head)] for m in methods}


def dots(
    methods: Sequence[Method],
    columns: Sequence[dict[str, Any]],
    every: dict[str, list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """For each data set a strip of dots a method. every: see `all_volumes`.

    A dot is a volume; where a method has several runs, or more than 300 volumes, it is a patient: the mean
    over the patient's volumes and the runs.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for name, listed in every.items():
        for volume in listed:
            found[name, volume["dataset"]].append(volume)
    strips = (
        [_strip(method, column["name"], found[method.name, column["name"]]) for method in methods]
        for column in columns
    )
    return [
        column | {"strips": [strip for strip in own if strip]}
        for column, own in zip(columns, strips, strict=True)
    ]


def _strip(method: Method, dataset: str, found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    cell = score_cell(method, dataset, method.head, of=MEAN, measure="dice")
    if cell["state"] != "value":
        return None
    each = len(method.runs) == 1 and len(found) <= MOST_VOLUMES
    points = [(volume["case"], volume["dice"]) for volume in found] if each else list(_patients(found))
    return {
        "method": method.name,
        "head": method.head,
        "unit": "volume" if each else "patient",
        "points": [{"name": name, "dice": value} for name, value in points],
        **{key: cell[key] for key in ("mean", "spread", "spread_over", "runs")},
    }


def _patients(found: Sequence[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    scores: dict[str, list[float]] = defaultdict(list)
    for volume in found:
        scores[volume["patient"]].append(volume["dice"])
    return ((patient, fmean(values)) for patient, values in scores.items())


def worst(methods: Sequence[Method], every: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The volumes of lowest Dice of each method, all its runs together, and how the others did on each."""
    by_case: dict[str, dict[tuple[str, str], list[float]]] = {}
    for name, found in every.items():
        by_case[name] = defaultdict(list)
        for volume in found:
            by_case[name][volume["dataset"], volume["case"]].append(volume["dice"])
    listed = []
    for method in methods:
        chosen = sorted(every[method.name], key=lambda v: (v["dice"], v["dataset"], v["case"]))[:LISTED]
        for volume in chosen:
            key = volume["dataset"], volume["case"]
            others = [name for name in by_case if name != method.name and key in by_case[name]]
            volume["others"] = {name: fmean(by_case[name][key]) for name in others}
        listed.append({"method": method.name, "head": method.head, "cases": chosen})
    return listed


def slowest(every: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The volumes that took longest to predict, and the median over volumes of each method; seconds."""
    by_method = {
        name: [volume for volume in found if volume["seconds"] is not None] for name, found in every.items()
    }
    timed = [volume for found in by_method.values() for volume in found]
    seconds = {name: [volume["seconds"] for volume in found] for name, found in by_method.items() if found}
    return {
        "cases": sorted(timed, key=lambda volume: -volume["seconds"])[:LISTED],
        "medians": {name: median(values) for name, values in seconds.items()},
        "volumes": {name: len(values) for name, values in seconds.items()},
    }
