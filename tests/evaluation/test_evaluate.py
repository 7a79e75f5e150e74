"""Rows of an evaluation: facts, scores by an independent route, distances only where spacing is true."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import COLUMNS, Predictions, evaluate
from coopseg.evaluation.metrics import surface_scores
from coopseg.measures.overlap import dice
from coopseg.scans.nifti import read_labels, write_image, write_labels
from coopseg.scans.types import Dataset, Labels, Scan, ScanRef

pytestmark = pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage`:DeprecationWarning")

NAMES = ("background", "LV", "MYO", "RV")
AFFINE = np.diag([1.5, 1.5, 10, 1.0])


def make_dataset(folder: Path, name: str, values: tuple[int, ...]) -> Dataset:
    """Two volumes of a patient whose label boxes are stored with the given values for NAMES."""
    items = []
    for phase in ("ED", "ES"):
        indices = np.zeros((12, 16, 4), np.uint8)
        for index in (1, 2, 3):
            indices[3 : 6 + index, 4 * index : 4 * index + 3, 1:3] = index
        data = np.array(values, np.uint8)[indices]
        image, label = folder / f"{name}_{phase}.nii.gz", folder / f"{name}_{phase}_gt.nii.gz"
        write_image(image, indices, affine=AFFINE)  # the image shows the indices, for `oracle`
        write_labels(label, data, like=Scan(data, AFFINE))
        items.append(ScanRef("p1", image, label, phase, site="Philips/2", normalised=phase == "ES"))
    return Dataset(name, folder, "folder", Labels(NAMES, values), tuple(items))


@pytest.fixture
def datasets(tmp_path: Path) -> list[Dataset]:
    return [make_dataset(tmp_path, "A", (0, 3, 2, 1)), make_dataset(tmp_path, "B", (0, 1, 2, 3))]


def oracle(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
    """Head "right" is the truth, head "shifted" the truth one voxel along X, without the RV."""
    truth = scan.data.astype(np.uint8)
    shifted = np.roll(truth, 1, axis=0)
    shifted[shifted == 3] = 0
    return {"right": truth, "shifted": shifted}


def test_rows(datasets: list[Dataset]) -> None:
    seen = []
    predictions = Predictions(oracle, names=NAMES)
    rows = evaluate(predictions, datasets, spacing_is_true=True, progress=lambda *facts: seen.append(facts))
    assert seen == [(1, 4, "p1_ED"), (2, 4, "p1_ES"), (3, 4, "p1_ED"), (4, 4, "p1_ES")]
    assert len(rows) == 2 * 2 * 2 * 3
    assert all(tuple(row) == COLUMNS for row in rows)
    assert [row["class"] for row in rows[:6]] == ["LV", "MYO", "RV"] * 2
    for row in rows:
        assert (row["patient"], row["site"], row["copy"]) == ("p1", "Philips/2", 0)
        if row["head"] == "right":
            assert (row["dice"], row["hd95"], row["assd"], row["distance"]) == (1, 0, 0, "measured")
    for row in rows[3:5]:  # boxes 4 and 5 voxels long, one off
        length = 4 if row["class"] == "LV" else 5
        assert row["dice"] == pytest.approx(1 - 1 / length)
        assert row["hd95"] == pytest.approx(1.5)
        assert 0 < row["assd"] < 1.5
    assert all(row["seconds"] > 0 for row in rows)
    volumes = [rows[start : start + 6] for start in range(0, len(rows), 6)]
    assert all(len({row["seconds"] for row in volume}) == 1 for volume in volumes)
    assert rows[5]["dice"] == 0
    assert math.isnan(rows[5]["hd95"])
    assert rows[5]["distance"] == "one empty"


def test_nominal_spacing_gives_no_millimetres(datasets: list[Dataset]) -> None:
    rows = evaluate(Predictions(oracle, names=NAMES), datasets, spacing_is_true=False)
    assert all(math.isnan(row[key]) for row in rows for key in ("hd95", "assd", "nsd"))
    assert {row["distance"] for row in rows} == {"spacing unknown"}
    assert rows[0]["dice"] == 1


def test_a_class_in_neither_map(datasets: list[Dataset]) -> None:
    dataset = replace(datasets[1], items=datasets[1].items[:1])
    path = dataset.items[0].label
    assert path is not None
    label = read_labels(path)
    write_labels(path, np.where(label.data == 3, 0, label.data), like=label)
    row = evaluate(Predictions(oracle, names=NAMES), [dataset], spacing_is_true=True)[5]
    assert (row["class"], row["dice"], row["distance"]) == ("RV", 1, "both empty")


def test_the_predictor_hears_whether_intensities_are_normalised(datasets: list[Dataset]) -> None:
    heard = []

    def predict(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        heard.append(normalised)
        return oracle(scan, normalised)

    evaluate(Predictions(predict, names=NAMES), datasets[:1], spacing_is_true=False)
    assert heard == [False, True]


def test_refuses_before_predicting(datasets: list[Dataset]) -> None:
    def never(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        raise AssertionError

    first = datasets[0]
    bare = replace(first, items=(first.items[0], replace(first.items[1], label=None)))
    all_bare = replace(first, items=tuple(replace(item, label=None) for item in first.items))
    twice = replace(first, items=(first.items[0], first.items[0]))
    for wrong, message in (
        ([bare], "p1_ES has no label; evaluate labelled volumes only"),
        ([all_bare], "p1_ED has no label, as have 1 more; evaluate"),
        ([first, first], "two data sets are called 'A'; give each its own name"),
        ([twice], "two volumes are called 'p1_ED'"),
    ):
        with pytest.raises(CoopsegError, match=message):
            evaluate(Predictions(never, names=NAMES), wrong, spacing_is_true=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_in_order_is_raised(datasets: list[Dataset], tmp_path: Path, workers: int) -> None:
    first, second = datasets[0].items
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(first.image.read_bytes()[:-9])
    started: list[Path | None] = []

    def predict(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        started.append(scan.path)
        time.sleep(0.2)  # the third volume has failed by then
        return {"FTN": np.zeros((2, 2, 2), np.uint8)}

    many = tuple(replace(second, patient=f"q{index}") for index in range(20))
    dataset = replace(datasets[0], items=(first, second, replace(first, patient="p2", image=bad), *many))
    before = threading.active_count()
    with pytest.raises(
        CoopsegError, match=r"FTN gave shape \(2, 2, 2\), the label has \(12, 16, 4\)"
    ) as found:
        evaluate(Predictions(predict, names=NAMES), [dataset], spacing_is_true=False, workers=workers)
    assert str(first.image) in str(found.value)
    assert len(started) < 5
    assert threading.active_count() == before


def noisy(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
    """Heads that depend on the scan and take unequal times."""
    generator = np.random.default_rng(int(scan.data.sum()) + normalised)
    time.sleep(generator.uniform(0, 0.02))
    truth = scan.data.astype(np.uint8)
    wrong = generator.random(truth.shape) < 0.2
    return {"FTN": np.where(wrong, generator.integers(0, 4, truth.shape), truth).astype(np.uint8)}


def test_rows_do_not_depend_on_workers(tmp_path: Path) -> None:
    sets = [make_dataset(tmp_path, name, (0, 1, 2, 3)) for name in "ABCDE"]
    found = []
    for workers in (1, 2, 7):
        seen: list[tuple[int, int, str]] = []
        rows = evaluate(
            Predictions(noisy, names=NAMES, in_turn=workers == 2),
            sets,
            spacing_is_true=True,
            workers=workers,
            progress=lambda *facts, seen=seen: seen.append(facts),
        )
        assert [done for done, _, _ in seen] == list(range(1, 11))
        found.append([{**row, "seconds": 0} for row in rows])
    assert found[0] == found[1] == found[2]


def test_scores_are_those_of_the_whole_volume(datasets: list[Dataset]) -> None:
    """Though what is scored is cut to the foreground."""
    generator = np.random.default_rng(1)
    whole = generator.integers(0, 4, (12, 16, 4)).astype(np.uint8)
    whole[:2], whole[:, 14:] = 0, 0
    rows = evaluate(Predictions(lambda *_: {"FTN": whole}, names=NAMES), datasets[:1], spacing_is_true=True)
    label = read_labels(datasets[0].items[0].label)  # type: ignore[arg-type]
    truth = np.array([0, 3, 2, 1], np.uint8)[label.data]
    np.testing.assert_array_equal([row["dice"] for row in rows[:3]], dice(whole, truth, classes=(1, 2, 3)))
    for index, row in enumerate(rows[:3], start=1):
        expected = surface_scores(whole == index, truth == index, spacing=label.spacing)
        assert (row["hd95"], row["assd"], row["nsd"]) == expected


TWO_NAMES = ("background", "LV")
SHAPE = (5, 6, 3)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two frames of one 4-D file: a kept prediction is of a volume, not of a file."""
    image, label = tmp_path / "a.nii.gz", tmp_path / "a_gt.nii.gz"
    volumes = np.random.default_rng(0).integers(0, 200, (*SHAPE, 2))
    write_image(image, volumes, affine=AFFINE)
    write_image(label, (volumes > 100) * 7, affine=AFFINE, dtype=np.uint8)
    items = tuple(ScanRef("p1", image, label, phase, frame) for frame, phase in enumerate(("ED", "ES")))
    return Dataset("A", tmp_path, "folder", Labels(TWO_NAMES, (0, 7)), items)


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
    predictions = Predictions(predict, names=TWO_NAMES, keep=True)
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
    predictions = Predictions(predict, names=TWO_NAMES)
    for _ in range(2):
        predictions(dataset, dataset.items[0])
    assert predict.calls == 2


@pytest.mark.parametrize("in_turn", [True, False])
def test_in_turn(dataset: Dataset, in_turn: bool) -> None:
    predict, barrier = Counting(), threading.Barrier(4)
    predictions = Predictions(predict, names=TWO_NAMES, in_turn=in_turn)

    def ask(_: int) -> None:
        barrier.wait()
        predictions(dataset, dataset.items[0])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert (predict.most == 1) is in_turn


def test_refuses(dataset: Dataset, tmp_path: Path) -> None:
    predictions = Predictions(lambda *_: {"FTN": np.zeros((2, 2, 2), np.uint8)}, names=TWO_NAMES)
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
