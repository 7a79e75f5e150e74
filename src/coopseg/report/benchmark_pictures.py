"""One slice of each data set with the contours of every row of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from coopseg.benchmark.collected import METRICS, STEPS, Collected, Ended
from coopseg.benchmark.columns import Column
from coopseg.benchmark.grid import EVALUATION
from coopseg.benchmark.request import WHOLE
from coopseg.evaluation.pictures import IMAGE, SLICES, TRUTH
from coopseg.report.images import contours, grey_png
from coopseg.report.pictures import read_arrays
from coopseg.text import read_json


def slice_panels(collected: Collected, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """For each data set its stored slice: the image once, the true contours, and a panel a row.

    A row is shown by its first finished draw at equal steps, and its last head; rows whose evaluation stored
    no pictures have no panel. Dice is that of the whole volume, mean over classes.
    """
    shown = [ended for row in collected.rows if (ended := _first(collected, row))]
    found: dict[str, dict[str, Any]] = {}
    for ended in shown:
        for entry, arrays in _stored(ended):
            name = entry["dataset"]
            if name not in found:
                found[name] = _slice(ended, entry, arrays)
            found[name]["panels"].append(_panel(ended, entry, arrays, collected.heads(ended.job.row)[-1]))
    return [found[column["name"]] for column in columns if column["name"] in found]


def _first(collected: Collected, row: str) -> Ended | None:
    jobs = [ended for ended in collected.jobs_of(row, STEPS) if ended.state == "finished"]
    stored = [ended for ended in jobs if (ended.folder / EVALUATION / SLICES).is_file()]
    return min(stored, key=lambda ended: (ended.job.draw, ended.job.seed), default=None)


def _stored(ended: Ended) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    arrays = read_arrays(ended.folder / EVALUATION / SLICES)
    rows = read_json(ended.folder / EVALUATION / METRICS)["rows"]
    found = []
    for number, entry in enumerate(ended.evaluation["slices"]):
        start = f"{number}/"
        own = {name.removeprefix(start): v for name, v in arrays.items() if name.startswith(start)}
        case = (entry["dataset"], entry["case"])
        dice = [row for row in rows if (row["dataset"], row["case"]) == case]
        found.append((entry | {"rows": dice}, own))
    return found


def _slice(ended: Ended, entry: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    height, width = entry["spacing"]
    image = arrays[IMAGE]
    return {
        **{key: entry[key] for key in ("dataset", "case", "slice", "slices")},
        "image": grey_png(image),
        "size_mm": [round(image.shape[0] * height, 2), round(image.shape[1] * width, 2)],
        "truth": contours(arrays[TRUTH], ended.evaluation["model"]["names"], (height, width)),
        "panels": [],
    }


def _panel(ended: Ended, entry: dict[str, Any], arrays: dict[str, np.ndarray], head: str) -> dict[str, Any]:
    dice = [row["dice"] for row in entry["rows"] if row["head"] == head]
    names, spacing = ended.evaluation["model"]["names"], tuple(entry["spacing"])
    return {
        "row": ended.job.row,
        "draw": "" if ended.job.draw == WHOLE else ended.job.draw,
        "head": head,
        "dice": fmean(dice),
        "prediction": contours(arrays[head], names, spacing),
    }
