"""The stored slices: which one, where it is cut, and the same one for every model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coopseg.evaluation.predictions import Predictions
from coopseg.evaluation.slices import (
    choose_volume,
    largest_slice,
    shared_patient,
    square_around,
    write_slices,
)
from coopseg.scans.nifti import write_image, write_labels
from coopseg.scans.types import Dataset, Labels, Scan, ScanRef

NAMES = ("background", "LV", "RV")
SHAPE = (40, 30, 5)  # X, Y, Z; slices along Z
AFFINE = np.diag([1.5, 1.0, 8.0, 1.0])


def make_dataset(folder: Path, name: str, volumes: list[tuple[str, str, int]], *, largest: int) -> Dataset:
    """Volumes (patient, phase, copy) whose slice number `largest`, from 0, holds most foreground."""
    items = []
    for patient, phase, copy in volumes:
        label = np.zeros(SHAPE, np.uint8)
        label[14:20, 12:17, 1:4] = 1
        label[14:24, 12:17, largest] = 2
        image = np.random.default_rng(len(items)).normal(100, 20, SHAPE) + 50 * label
        stem = folder / f"{name}_{patient}_{phase}_{copy}"
        paths = stem.with_suffix(".nii.gz"), Path(f"{stem}_gt.nii.gz")
        write_image(paths[0], image, affine=AFFINE)
        write_labels(paths[1], label, like=Scan(label, AFFINE))
        items.append(ScanRef(patient, *paths, phase, copy=copy))
    return Dataset(name, folder, "folder", Labels(NAMES, (0, 1, 2)), tuple(items))


@pytest.fixture
def datasets(tmp_path: Path) -> list[Dataset]:
    """An original with p1 to p3, copies of p2, whose largest slice has become another, and another site."""
    volumes = [(patient, phase, 0) for patient in ("p3", "p1", "p2") for phase in ("ES", "ED")]
    copies = [("p2", phase, copy) for phase in ("ES", "ED") for copy in (2, 1)]
    return [
        make_dataset(tmp_path, "site1", volumes, largest=3),
        make_dataset(tmp_path, "RandX", copies, largest=2),
        make_dataset(tmp_path, "site2", [("q2", "", 0), ("q1", "", 0)], largest=1),
    ]


def predict(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
    right = np.where(scan.data > 150, 1, 0).astype(np.uint8)
    return {"FTN": right, "FTN+STN": right * 2}


def test_choice(datasets: list[Dataset], tmp_path: Path) -> None:
    index = write_slices(Predictions(predict, names=NAMES), datasets, out=tmp_path / "out")
    found = [tuple(e[k] for k in ("dataset", "case", "copy", "slice", "slices", "spacing")) for e in index]
    assert found == [
        ("site1", "p2_ED", 0, 4, 5, [1.0, 1.5]),  # the one with corrupted copies, ED
        ("RandX", "p2_ED_copy1", 1, 4, 5, [1.0, 1.5]),  # the same slice, though another is larger there
        ("site2", "q1", 0, 2, 5, [1.0, 1.5]),
    ]
    ones = Predictions(lambda *_: {"FTN": np.ones(SHAPE, np.uint8)}, names=NAMES)
    other = write_slices(ones, datasets, out=tmp_path)
    assert other == index  # whatever a model predicts


def test_stored_arrays(datasets: list[Dataset], tmp_path: Path) -> None:
    write_slices(Predictions(predict, names=NAMES), datasets[:1], out=tmp_path)
    stored = dict(np.load(tmp_path / "slices.npz"))
    assert sorted(stored) == ["0/FTN", "0/FTN+STN", "0/image", "0/truth"]
    assert {array.dtype for array in stored.values()} == {np.dtype(np.uint8)}
    assert len({array.shape for array in stored.values()}) == 1
    truth = stored["0/truth"]
    assert (truth == 2).sum() == 10 * 5  # all of the foreground, rows along Y
    rows, columns = np.nonzero(truth)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (5, 10)
    height, width = truth.shape[0] * 1.0, truth.shape[1] * 1.5
    assert height == pytest.approx(1.7 * 15, abs=2)  # mm, of a foreground 15 mm wide and 5 mm high
    assert width == pytest.approx(height, abs=2)
    assert np.array_equal(stored["0/FTN+STN"], 2 * stored["0/FTN"])
    bright = stored["0/image"].astype(float)
    assert bright[truth > 0].mean() > bright[truth == 0].mean() + 60
    assert (bright.min(), bright.max()) == (0, 255)


def test_patients(datasets: list[Dataset]) -> None:
    assert shared_patient(datasets) == "p2"
    assert shared_patient(datasets[:1]) == "p1"
    assert shared_patient([datasets[0], datasets[2]]) == "p1"
    assert choose_volume(datasets[1], "nobody").id == "p2_ED_copy1"
    no_ed = replace(datasets[0], items=tuple(ref for ref in datasets[0].items if ref.phase == "ES"))
    assert choose_volume(no_ed, "p1").id == "p1_ES"


def test_nothing_to_see() -> None:
    empty = np.zeros((7, 4, 4), np.uint8)
    assert largest_slice(empty) == 3
    assert square_around(empty[0] > 0, (1, 1)) == (slice(None), slice(None))


def test_a_square_at_the_border() -> None:
    mask = np.zeros((50, 60), bool)
    mask[:10, 50:] = True
    rows, columns = square_around(mask, (1, 1))
    assert mask[rows, columns].sum() == mask.sum()
    assert (rows.start, columns.stop) == (0, 64)  # beyond the last pixel, which slicing allows
