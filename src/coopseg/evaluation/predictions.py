"""Predicts each volume of an evaluation once, and keeps predictions for the pictures drawn at the end."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.types import Dataset, Scan, ScanRef

Predict = Callable[[Scan, bool], dict[str, np.ndarray]]


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
    in_turn: never call `predict` from two threads at once, for a device that all of them share.
    """

    def __init__(
        self, predict: Predict, *, names: Sequence[str], keep: bool = False, in_turn: bool = False
    ) -> None:
        self.names = tuple(names)
        self._predict = predict
        self._turn = Lock() if in_turn else nullcontext()
        self._keep = keep
        self._kept: dict[tuple[str, str], tuple[dict[str, bytes], float]] = {}

    def __call__(self, dataset: Dataset, ref: ScanRef) -> PredictedCase:
        """Read one volume and its label; return them with its prediction, kept or newly made.

        Raises CoopsegError for a volume without a label or one that cannot be read, and for a prediction
        that is not in its scan's grid.
        """
        scan, label = load_scan(ref), load_label(ref)
        if label is None:
            raise CoopsegError(f"{ref.image}: volume {ref.id} has no label; evaluate labelled volumes only")
        target = labels_to_indices(label.data, dataset.labels, names=self.names, path=ref.label)
        if kept := self._kept.get((dataset.name, ref.id)):
            return PredictedCase(scan, target, _unpack(kept[0], target.shape), kept[1])
        with self._turn:
            start = time.perf_counter()
            heads = self._predict(scan, ref.normalised)
            seconds = time.perf_counter() - start
        _check_grid(heads, target, ref)
        if self._keep:
            self._kept[dataset.name, ref.id] = _pack(heads), seconds
        return PredictedCase(scan, target, heads, seconds)


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
