"""Rows of an evaluation: facts, scores by an independent route, distances only where spacing is true."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import COLUMNS, evaluate
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
    rows = evaluate(
        oracle, datasets, names=NAMES, spacing_is_true=True, progress=lambda *facts: seen.append(facts)
    )
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
    rows = evaluate(oracle, datasets, names=NAMES, spacing_is_true=False)
    assert all(math.isnan(row["hd95"]) and math.isnan(row["assd"]) for row in rows)
    assert {row["distance"] for row in rows} == {"spacing unknown"}
    assert rows[0]["dice"] == 1


def test_a_class_in_neither_map(datasets: list[Dataset]) -> None:
    dataset = replace(datasets[1], items=datasets[1].items[:1])
    path = dataset.items[0].label
    assert path is not None
    label = read_labels(path)
    write_labels(path, np.where(label.data == 3, 0, label.data), like=label)
    row = evaluate(oracle, [dataset], names=NAMES, spacing_is_true=True)[5]
    assert (row["class"], row["dice"], row["distance"]) == ("RV", 1, "both empty")


def test_the_predictor_hears_whether_intensities_are_normalised(datasets: list[Dataset]) -> None:
    heard = []

    def predict(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        heard.append(normalised)
        return oracle(scan, normalised)

    evaluate(predict, datasets[:1], names=NAMES, spacing_is_true=False)
    assert heard == [False, True]


def test_refuses_before_predicting(datasets: list[Dataset]) -> None:
    def never(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        raise AssertionError

    first = datasets[0]
    bare = replace(first, items=(first.items[0], replace(first.items[1], label=None)))
    twice = replace(first, items=(first.items[0], first.items[0]))
    for wrong, message in (
        ([bare], "p1_ES has no label; evaluate labelled volumes only"),
        ([first, first], "two data sets are called 'A'; give each its own name"),
        ([twice], "two volumes are called 'p1_ED'"),
    ):
        with pytest.raises(CoopsegError, match=message):
            evaluate(never, wrong, names=NAMES, spacing_is_true=False)


def test_refuses_a_prediction_in_another_grid(datasets: list[Dataset]) -> None:
    with pytest.raises(CoopsegError, match=r"FTN gave shape \(2, 2, 2\), the label has \(12, 16, 4\)"):
        evaluate(
            lambda scan, normalised: {"FTN": np.zeros((2, 2, 2), np.uint8)},
            datasets,
            names=NAMES,
            spacing_is_true=False,
        )
