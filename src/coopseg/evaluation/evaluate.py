"""From a predictor and data sets to one row per volume, head and class."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.evaluation.metrics import dice
from coopseg.evaluation.surface import hd95_assd
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.types import Dataset, Scan, ScanRef

Row = dict[str, Any]
Predict = Callable[[Scan, bool], dict[str, np.ndarray]]

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
    "seconds",  # that the prediction of the volume's heads took
)


@dataclass(frozen=True)
class PredictedCase:
    """One volume, its true class indices and the prediction of every head, all in the scan's own grid.

    seconds: wall-clock time of the prediction, without reading the files.
    """

    scan: Scan
    target: np.ndarray
    heads: dict[str, np.ndarray]
    seconds: float


def evaluate(
    predict: Predict,
    datasets: Sequence[Dataset],
    *,
    names: Sequence[str],
    spacing_is_true: bool,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Row]:
    """Score every volume of the data sets, each in the grid in which it was stored.

    predict: (scan, normalised) -> {head: uint8 class indices of the scan's shape}; normalised says that
    intensities already lie in [0, 1]. names: the classes, background first; labels are mapped by name.
    spacing_is_true: false where the headers hold a nominal spacing; distances are then NaN.
    progress: called as (volumes done, volumes in all, case) after each volume.
    Returns rows with the keys of COLUMNS, in the order of the data sets, volumes, heads and classes: dice in
    [0, 1], hd95 and assd in millimetres, seconds for the volume as a whole.
    Raises CoopsegError before anything is predicted where a volume has no label or two data sets or two
    volumes of one share a name; and where a prediction is not in its scan's grid.
    """
    _check(datasets)
    total = sum(len(dataset.items) for dataset in datasets)
    rows: list[Row] = []
    done = 0
    for dataset in datasets:
        for ref in dataset.items:
            case = predict_case(predict, dataset, ref, names=names)
            for head, prediction in case.heads.items():
                facts = {"dataset": dataset.name, **_facts(ref), "head": head}
                spacing = case.scan.spacing if spacing_is_true else None
                scores = _scores(prediction, case.target, names=names, spacing=spacing)
                rows.extend({**facts, **score, "seconds": case.seconds} for score in scores)
            done += 1
            if progress:
                progress(done, total, ref.id)
    return rows


def predict_case(predict: Predict, dataset: Dataset, ref: ScanRef, *, names: Sequence[str]) -> PredictedCase:
    """Read one volume and its label, and predict it. Raises CoopsegError as `evaluate` does."""
    scan, label = load_scan(ref), load_label(ref)
    if label is None:
        raise CoopsegError(f"{ref.image}: volume {ref.id} has no label; evaluate labelled volumes only")
    target = labels_to_indices(label.data, dataset.labels, names=tuple(names), path=ref.label)
    start = time.perf_counter()
    heads = predict(scan, ref.normalised)
    seconds = time.perf_counter() - start
    for head, prediction in heads.items():
        if prediction.shape != target.shape:
            raise CoopsegError(
                f"{ref.image}: {head} gave shape {prediction.shape}, the label has {target.shape}; "
                "predict in the grid in which the scan was stored"
            )
    return PredictedCase(scan, target, heads, seconds)


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


def _distances(
    prediction: np.ndarray, target: np.ndarray, spacing: np.ndarray | None
) -> tuple[float, float, str]:
    if spacing is None:
        return math.nan, math.nan, "spacing unknown"
    hd95, assd = hd95_assd(prediction, target, spacing=spacing)
    if not math.isnan(hd95):
        return hd95, assd, "measured"
    return hd95, assd, "one empty" if prediction.any() or target.any() else "both empty"
