"""Scores predictions of data sets in one row per volume, head and class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from coopseg.errors import CoopsegError
from coopseg.evaluation.metrics import dice
from coopseg.evaluation.predictions import Predictions
from coopseg.evaluation.surface import hd95_assd
from coopseg.scans.types import Dataset, ScanRef
from coopseg.workers import threads

Row = dict[str, Any]

COLUMNS = (
    "dataset",
    "case",
    "patient",
    "phase",
    "site",
    "copy",
    "head",
    "class",
    "dice",
    "hd95",
    "assd",
    "distance",  # "measured", "one empty", "both empty" or "spacing unknown": why hd95 and assd may be NaN
    "seconds",  # time to predict all heads of the volume, while other workers may be at work too
)


def evaluate(
    predictions: Predictions,
    datasets: Sequence[Dataset],
    *,
    spacing_is_true: bool,
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Row]:
    """Score every volume of the data sets, each in the grid in which it was stored.

    spacing_is_true: false if the headers hold a nominal spacing; distances are then NaN.
    workers: threads; each takes whole volumes, from reading to distances, and the scores do not depend on
    their number. progress: called as (volumes done, volumes in all, case) after each volume, in order.
    Returns rows with the keys of COLUMNS, in the order of the data sets, volumes, heads and classes: dice in
    [0, 1], hd95 and assd in millimetres, seconds for the volume as a whole.
    Raises CoopsegError, before anything is predicted, if a volume has no label or if two data sets, or two
    volumes of one data set, share a name; and as `Predictions` does, for the first volume in order.
    """
    _check(datasets)
    volumes = [(dataset, ref) for dataset in datasets for ref in dataset.items]
    score = partial(_score_volume, predictions, spacing_is_true)
    rows: list[Row] = []
    with threads(workers) as side_by_side:
        found = side_by_side(score, volumes)
        for done, ((_, ref), scored) in enumerate(zip(volumes, found, strict=True), start=1):
            rows += scored
            if progress:
                progress(done, len(volumes), ref.id)
    return rows


def _score_volume(
    predictions: Predictions, spacing_is_true: bool, volume: tuple[Dataset, ScanRef]
) -> list[Row]:
    dataset, ref = volume
    case = predictions(dataset, ref)
    spacing = case.scan.spacing if spacing_is_true else None
    rows: list[Row] = []
    for head, prediction in case.heads.items():
        facts = {"dataset": dataset.name, **_facts(ref), "head": head}
        scores = _scores(prediction, case.target, names=predictions.names, spacing=spacing)
        rows.extend({**facts, **score, "seconds": case.seconds} for score in scores)
    return rows


def _check(datasets: Sequence[Dataset]) -> None:
    if clash := _repeated(dataset.name for dataset in datasets):
        raise CoopsegError(f"two data sets are called {clash!r}; give each its own name")
    for dataset in datasets:
        if clash := _repeated(ref.id for ref in dataset.items):
            raise CoopsegError(f"{dataset.root}: two volumes are called {clash!r}; give each its own name")
        for ref in dataset.items:
            if ref.label is None:
                raise CoopsegError(
                    f"{ref.image}: volume {ref.id} has no label; evaluate labelled volumes only"
                )


def _repeated(names: Iterator[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _facts(ref: ScanRef) -> Row:
    return {"case": ref.id, "patient": ref.patient, "phase": ref.phase, "site": ref.site, "copy": ref.copy}


def _scores(
    prediction: np.ndarray, target: np.ndarray, *, names: Sequence[str], spacing: np.ndarray | None
) -> Iterator[Row]:
    prediction, target = _crop_to_foreground(prediction, target)
    overlaps = dice(prediction, target, classes=range(1, len(names)))
    for index, overlap in enumerate(overlaps, start=1):
        hd95, assd, distance = _distances(prediction == index, target == index, spacing)
        score = {
            "class": names[index],
            "dice": float(overlap),
            "hd95": hd95,
            "assd": assd,
            "distance": distance,
        }
        yield score


def _crop_to_foreground(prediction: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crops both maps to the smallest box with all their foreground, which does not change the scores."""
    foreground = (prediction | target).astype(bool)
    box = find_objects(foreground.view(np.uint8), max_label=1)[0] or (slice(0),) * foreground.ndim
    return prediction[box], target[box]


def _distances(
    prediction: np.ndarray, target: np.ndarray, spacing: np.ndarray | None
) -> tuple[float, float, str]:
    if spacing is None:
        return math.nan, math.nan, "spacing unknown"
    hd95, assd = hd95_assd(prediction, target, spacing=spacing)
    if not math.isnan(hd95):
        return hd95, assd, "measured"
    return hd95, assd, "one empty" if prediction.any() or target.any() else "both empty"
