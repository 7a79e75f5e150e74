"""Each volume is predicted once, and what was kept is what was predicted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.evaluation.predictions import Predictions
from coopseg.scans.nifti import write_image, write_labels
from coopseg.scans.types import Dataset, Labels, Scan, ScanRef

NAMES = ("background", "LV")
SHAPE = (5, 6, 3)
AFFINE = np.diag([1.5, 1.5, 10, 1.0])


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two frames of one 4-D file: a kept prediction is of a volume, not of a file."""
    image, label = tmp_path / "a.nii.gz", tmp_path / "a_gt.nii.gz"
    volumes = np.random.default_rng(0).integers(0, 200, (*SHAPE, 2))
    write_image(image, volumes, affine=AFFINE)
    write_image(label, (volumes > 100) * 7, affine=AFFINE, dtype=np.uint8)
    items = tuple(ScanRef("p1", image, label, phase, frame) for frame, phase in enumerate(("ED", "ES")))
    return Dataset("A", tmp_path, "folder", Labels(NAMES, (0, 7)), items)


class Counting:
    """Predicts a value that depends on the scan, in arrays stored either way; counts calls."""

    def __init__(self) -> None:
        self.calls = self.most = self.now = 0

    def __call__(self, scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        self.calls, self.now = self.calls + 1, self.now + 1
        self.most = max(self.most, self.now)
        time.sleep(0.02)
        self.now -= 1
        labels = (scan.data > 150).astype(np.uint8)
        return {"FTN": np.asfortranarray(labels), "FTN+STN": np.ascontiguousarray(labels[::-1])}


def test_what_is_kept_is_predicted_once(dataset: Dataset) -> None:
    predict = Counting()
    predictions = Predictions(predict, names=NAMES, keep=True)
    first = [predictions(dataset, ref) for ref in dataset.items]
    again = [predictions(dataset, ref) for ref in dataset.items]
    assert predict.calls == 2
    for one, other in zip(first, again, strict=True):
        assert other.seconds == one.seconds > 0
        assert set(other.heads) == {"FTN", "FTN+STN"}
        for head, labels in other.heads.items():
            assert labels.dtype == np.uint8
            np.testing.assert_array_equal(labels, one.heads[head])
        np.testing.assert_array_equal(other.target, one.target)
        np.testing.assert_array_equal(other.scan.data, one.scan.data)
    assert (first[0].heads["FTN"] != first[1].heads["FTN"]).any()


def test_what_is_not_kept_is_predicted_again(dataset: Dataset) -> None:
    predict = Counting()
    predictions = Predictions(predict, names=NAMES)
    for _ in range(2):
        predictions(dataset, dataset.items[0])
    assert predict.calls == 2


@pytest.mark.parametrize("in_turn", [True, False])
def test_in_turn(dataset: Dataset, in_turn: bool) -> None:
    predict, barrier = Counting(), threading.Barrier(4)
    predictions = Predictions(predict, names=NAMES, in_turn=in_turn)

    def ask(_: int) -> None:
        barrier.wait()
        predictions(dataset, dataset.items[0])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert (predict.most == 1) is in_turn


def test_refuses(dataset: Dataset, tmp_path: Path) -> None:
    predictions = Predictions(lambda *_: {"FTN": np.zeros((2, 2, 2), np.uint8)}, names=NAMES)
    with pytest.raises(
        CoopsegError, match=r"a\.nii\.gz: FTN gave shape \(2, 2, 2\), the label has \(5, 6, 3\)"
    ):
        predictions(dataset, dataset.items[0])
    with pytest.raises(CoopsegError, match="p1 has no label"):
        predictions(dataset, ScanRef("p1", dataset.items[0].image, frame=0))
    other = tmp_path / "other.nii.gz"
    write_labels(other, np.zeros((4, 4, 4), np.uint8), like=Scan(np.zeros((4, 4, 4)), AFFINE))
    with pytest.raises(CoopsegError, match="give the label drawn on this image"):
        predictions(dataset, ScanRef("p1", dataset.items[0].image, other, frame=0))
