"""Predicts the volumes of data sets, each once, and scores them: a row per volume, head and class."""

from __future__ import annotations

import math
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TypedDict, cast

import numpy as np
from scipy.ndimage import find_objects

from coopseg.cases.prepare import blank_warning, intensity_limits, look_at
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError, enough_memory
from coopseg.evaluation.metrics import TOLERANCE, surface_scores
from coopseg.measures.frames import NOMINAL
from coopseg.measures.mending import mend_heads
from coopseg.measures.overlap import dice
from coopseg.quality.calibration import Expected
from coopseg.results.statistics import number
from coopseg.scans.journal import Journal, Volume, each_once, volume_name
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.load import check_labelled, load_label, load_scan
from coopseg.scans.types import Dataset, Scan, ScanRef
from coopseg.text import Json
from coopseg.workers import threads

Predict = Callable[[Scan, bool], dict[str, np.ndarray]]
Judge = Callable[[Scan, bool], tuple[dict[str, np.ndarray], Expected]]
Recall = Callable[[Dataset, ScanRef], tuple[dict[str, np.ndarray], tuple[str, ...]]]
# distance: "measured", "one empty", "both empty" or "spacing unknown": why hd95 and assd may be NaN.
# nsd is NaN for the last of these alone.
# seconds: to predict all heads of the volume, while other workers may be at work too.
Row = TypedDict("Row", {
    "dataset": str, "case": str, "patient": str, "phase": str, "site": str, "copy": int, "head": str,
    "class": str, "dice": float, "hd95": float, "assd": float, "nsd": float, "distance": str,
    "seconds": float,
})  # fmt: skip
COLUMNS = tuple(Row.__annotations__)


@dataclass(frozen=True)
class Scored:
    """Holds what the journal notes of a volume: its rows, None in place of NaN, warnings, expected Dice."""

    rows: list[Json]
    warnings: tuple[str, ...]
    expected: Expected | None = None

    @classmethod
    def of(cls, rows: Sequence[Row], warnings: Sequence[str], expected: Expected | None) -> Scored:
        """Packs rows for the journal."""
        plain = [{key: number(v) if isinstance(v, float) else v for key, v in row.items()} for row in rows]
        return cls(plain, tuple(warnings), expected)

    def unpacked(self) -> list[Row]:
        """Returns the rows as `evaluate` does."""
        return [
            cast("Row", {key: math.nan if value is None else value for key, value in row.items()})
            for row in self.rows
        ]


@dataclass(frozen=True)
class PredictedCase:
    """Holds a volume, its true class indices and the prediction of every head, all in the scan's own grid.

    seconds: wall-clock time of the prediction, without reading the files.
    """

    scan: Scan
    target: np.ndarray
    heads: dict[str, np.ndarray]
    seconds: float


class Predictions:
    """Reads and predicts volumes of data sets; several threads may call it at once.

    predict: (scan, normalised) -> {head: uint8 class indices of the scan's shape}; normalised says that
    intensities already lie in [0, 1]. names: the classes, background first; labels are mapped by name.
    keep: store every prediction, packed to some hundredth of its size, and return it when asked again.
    settings: how the model prepares a scan. warnings: gets (volume, line) for all that `look_at` finds,
    and for a blank scan.
    in_turn: never call `predict` from two threads at once, for a device that all of them share.
    recall: in place of `predict`, reads the heads of a volume that somebody predicted before, with lines for
    `warnings`. judge: in place of `predict`, also says what Dice is expected; `expected` gets it by data set
    and volume. anatomy: whether every prediction is mended, see `mend_heads`; `warnings` then say how.
    """

    def __init__(
        self,
        predict: Predict | None,
        *,
        names: Sequence[str],
        settings: CaseSettings = CaseSettings(),
        keep: bool = False,
        in_turn: bool = False,
        recall: Recall | None = None,
        judge: Judge | None = None,
        anatomy: bool = False,
    ) -> None:
        self.names = tuple(names)
        self.warnings: list[tuple[str, str]] = []
        self.expected: dict[tuple[str, str], Expected] = {}
        self._settings = settings
        self._predict, self._recall, self._judge = predict, recall, judge
        self._turn = Lock() if in_turn else nullcontext()
        self._keep, self._anatomy = keep, anatomy
        self._kept: dict[tuple[str, str], tuple[dict[str, bytes], float]] = {}

    def __call__(self, dataset: Dataset, ref: ScanRef) -> PredictedCase:
        """Read one volume and its label; return them with its prediction, kept or newly made.

        Raises CoopsegError for a volume without a label or one that cannot be read, and for a prediction
        that is not in its scan's grid.
        """
        with enough_memory("segmenting", ref.image):
            return self._predicted(dataset, ref)

    def _predicted(self, dataset: Dataset, ref: ScanRef) -> PredictedCase:
        scan, label = load_scan(ref), load_label(ref)
        if label is None:
            raise CoopsegError(f"{ref.image}: volume {ref.id} has no label; evaluate labelled volumes only")
        target = labels_to_indices(label.data, dataset.labels, names=self.names, path=ref.label)
        if kept := self._kept.get((dataset.name, ref.id)):
            return PredictedCase(scan, target, _unpack(kept[0], target.shape), kept[1])
        found = look_at(scan, self._settings, normalised=ref.normalised)
        limits = None if ref.normalised else intensity_limits(scan, self._settings)
        found += blank_warning(scan, limits, self._settings)
        self.warnings += [(volume_name(dataset, ref), line) for line in found]
        heads, seconds = self._heads(dataset, ref, scan)
        _check_grid(heads, target, ref)
        if self._anatomy:
            heads, changes = mend_heads(
                heads, self.names, scan.affine,
                spacing=NOMINAL, slice_axis=self._settings.slice_axis,  # shares hold for any spacing
            )  # fmt: skip
            self.warnings += [(volume_name(dataset, ref), each.text) for each in changes]
        if self._keep:
            self._kept[dataset.name, ref.id] = _pack(heads), seconds
        return PredictedCase(scan, target, heads, seconds)

    def _heads(self, dataset: Dataset, ref: ScanRef, scan: Scan) -> tuple[dict[str, np.ndarray], float]:
        """Returns the heads and the seconds that they took, NaN for those that somebody predicted before."""
        if self._recall:
            heads, lines = self._recall(dataset, ref)
            self.warnings += [(volume_name(dataset, ref), line) for line in lines]
            return heads, math.nan
        assert self._predict is not None  # a subject has one of the two
        with self._turn:
            start = time.perf_counter()
            if self._judge:
                heads, self.expected[dataset.name, ref.id] = self._judge(scan, ref.normalised)
            else:
                heads = self._predict(scan, ref.normalised)
            return heads, time.perf_counter() - start


def evaluate(
    predictions: Predictions,
    datasets: Sequence[Dataset],
    *,
    spacing_is_true: bool,
    tolerance: float = TOLERANCE,
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
    journal: Journal[Scored] | None = None,
    failed: list[CoopsegError] | None = None,
) -> list[Row]:
    """Score every volume of the data sets, each in the grid in which it was stored.

    spacing_is_true: false if the headers hold a nominal spacing; distances and NSD are then NaN.
    tolerance: mm, of the NSD.
    workers: threads; each takes whole volumes, from reading to distances, and the scores do not depend on
    their number. progress: called as (volumes done, volumes in all, case) after each volume, in order.
    journal: gets what is done; what it has already is not done again. failed: gets the error of each volume
    that cannot be used, in place of the first being raised.
    Returns rows with the keys of COLUMNS, in the order of the data sets, volumes, heads and classes: dice in
    [0, 1], hd95 and assd in millimetres, nsd in [0, 1], seconds for the volume as a whole.
    Raises CoopsegError, before anything is predicted, if a volume has no label or if two data sets, or two
    volumes of one data set, share a name; and as `Predictions` does, for the first volume in order.
    """
    _check(datasets)
    volumes = [(dataset, ref) for dataset in datasets for ref in dataset.items]
    score = partial(_try_volume, predictions, spacing_is_true, tolerance, failed is not None)
    rows: list[Row] = []
    with threads(workers) as side_by_side:
        found = each_once(journal, volumes, partial(side_by_side, score))
        for done, ((dataset, ref), scored) in enumerate(found, start=1):
            if isinstance(scored, CoopsegError):
                assert failed is not None  # else it was raised
                failed.append(scored)
            else:
                rows += scored.unpacked()
                lines = [(volume_name(dataset, ref), line) for line in scored.warnings]
                predictions.warnings += [line for line in lines if line not in predictions.warnings]
                if scored.expected:
                    predictions.expected[dataset.name, ref.id] = scored.expected
            if progress:
                progress(done, len(volumes), ref.id)
    return rows


def _try_volume(
    predictions: Predictions, spacing_is_true: bool, tolerance: float, go_on: bool, volume: Volume
) -> Scored | CoopsegError:
    """Scores a volume; returns the error, if it is to go on, in place of raising it."""
    try:
        rows = _score_volume(predictions, spacing_is_true, tolerance, volume)
    except CoopsegError as error:
        if go_on:
            return error
        raise
    lines = [line for name, line in predictions.warnings if name == volume_name(*volume)]
    return Scored.of(rows, lines, predictions.expected.get((volume[0].name, volume[1].id)))


def _score_volume(
    predictions: Predictions, spacing_is_true: bool, tolerance: float, volume: Volume
) -> list[Row]:
    dataset, ref = volume
    found = predictions(dataset, ref)
    spacing = found.scan.spacing if spacing_is_true else None
    rows: list[Row] = []
    for head, prediction in found.heads.items():
        predicted, target = _crop_to_foreground(prediction, found.target)
        overlaps = dice(predicted, target, classes=range(1, len(predictions.names)))
        for index, overlap in enumerate(overlaps, start=1):
            surfaces = _surfaces(predicted == index, target == index, spacing, tolerance)
            rows.append(
                {
                    "dataset": dataset.name, "case": ref.id, "patient": ref.patient, "phase": ref.phase,
                    "site": ref.site, "copy": ref.copy, "head": head, "class": predictions.names[index],
                    "dice": float(overlap), **surfaces,
                    "seconds": found.seconds,
                }
            )  # fmt: skip
    return rows


def _check(datasets: Sequence[Dataset]) -> None:
    if clash := _repeated(dataset.name for dataset in datasets):
        raise CoopsegError(f"two data sets are called {clash!r}; give each its own name")
    for dataset in datasets:
        if clash := _repeated(ref.id for ref in dataset.items):
            raise CoopsegError(f"{dataset.root}: two volumes are called {clash!r}; give each its own name")
    check_labelled(datasets, "evaluate")


def _repeated(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _crop_to_foreground(prediction: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crops both maps to the smallest box with all their foreground, which does not change the scores."""
    foreground = (prediction | target).astype(bool)
    box = find_objects(foreground.view(np.uint8), max_label=1)[0] or (slice(0),) * foreground.ndim
    return prediction[box], target[box]


class _Surfaces(TypedDict):
    """Holds the part of a row that is measured on surfaces."""

    hd95: float
    assd: float
    nsd: float
    distance: str


def _surfaces(
    prediction: np.ndarray, target: np.ndarray, spacing: np.ndarray | None, tolerance: float
) -> _Surfaces:
    if spacing is None:
        return {"hd95": math.nan, "assd": math.nan, "nsd": math.nan, "distance": "spacing unknown"}
    hd95, assd, nsd = surface_scores(prediction, target, spacing=spacing, tolerance=tolerance)
    measured = "one empty" if prediction.any() or target.any() else "both empty"
    if not math.isnan(hd95):
        measured = "measured"
    return {"hd95": hd95, "assd": assd, "nsd": nsd, "distance": measured}


def _check_grid(heads: dict[str, np.ndarray], target: np.ndarray, ref: ScanRef) -> None:
    for head, prediction in heads.items():
        if prediction.shape != target.shape:
            raise CoopsegError(
                f"{ref.image}: {head} gave shape {prediction.shape}, the label has {target.shape}; "
                "predict in the grid in which the scan was stored"
            )


def _pack(heads: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {head: zlib.compress(labels.tobytes(), 1) for head, labels in heads.items()}


def _unpack(packed: dict[str, bytes], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {
        head: np.frombuffer(zlib.decompress(content), np.uint8).reshape(shape)
        for head, content in packed.items()
    }
