"""Which cases are drawn, and that contours of all states of a slice can be drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coopseg.pages
from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import Predictions, evaluate
from coopseg.evaluation.pictures import (
    choose_volume,
    draw_case,
    largest_slice,
    pick_cases,
    shared_patient,
    square_around,
    write_pictures,
    write_slices,
)
from coopseg.scans.colours import structure_colours
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label
from coopseg.scans.nifti import write_image, write_labels
from coopseg.scans.types import Dataset, Labels, Scan, ScanRef

NAMES = ("background", "LV", "MYO", "RV")
STYLE = Path(coopseg.pages.__path__[0], "templates", "style.css")


def rows_of(scores: dict[str, tuple[float, ...]]) -> list[Any]:
    return [
        {"dataset": "D", "case": case, "head": "FTN", "dice": value}
        for case, values in scores.items()
        for value in values
    ]


def test_picks_by_the_mean_over_classes() -> None:
    rows = rows_of({"a": (0.9, 0.9), "b": (1.0, 0.0), "c": (0.7, 0.7), "d": (0.5, 0.75)})
    rows += [{"dataset": "D", "case": "a", "head": "other", "dice": 0.0}]
    assert pick_cases(rows, head="FTN") == {
        "D": {"worst": ("b", 0.5), "median": ("d", 0.625), "best": ("a", 0.9)}
    }


def test_picks_no_case_twice() -> None:
    assert pick_cases(rows_of({"a": (0.9,)}), head="FTN") == {"D": {"best": ("a", 0.9)}}
    two = pick_cases(rows_of({"a": (0.9,), "b": (0.9,)}), head="FTN")
    assert two == {"D": {"worst": ("a", 0.9), "best": ("b", 0.9)}}


def test_refuses_a_head_without_rows() -> None:
    with pytest.raises(CoopsegError, match="no row is of head 'STN'; the rows have: FTN"):
        pick_cases(rows_of({"a": (0.9,)}), head="STN")


@pytest.mark.parametrize("filled", ["both", "target", "prediction", "neither", "everything"])
def test_draws_every_state(filled: str, tmp_path: Path) -> None:
    image = np.random.default_rng(0).uniform(size=(6, 40, 50))
    box = np.zeros((6, 40, 50), np.uint8)
    box[1:4, 10:20, 20:35], box[3:5, 12:16, 36:40] = 1, 3
    empty = np.zeros_like(box)
    target = np.ones_like(box) if filled == "everything" else box if filled in ("both", "target") else empty
    prediction = box if filled in ("both", "prediction") else empty
    figure = draw_case(image, target, prediction, names=NAMES, title="case", aspect=1.2)
    figure.savefig(tmp_path / "case.png")
    panels = 1 if filled == "neither" else 3
    assert len(figure.axes) == panels
    with Image.open(tmp_path / "case.png") as picture:
        assert picture.width == 400 * panels


def test_truth_is_white_and_dashed_as_in_the_report() -> None:
    box = np.zeros((3, 20, 20), np.uint8)
    box[1, 5:9, 5:9], box[1, 9:12, 5:9] = 1, 3
    figure = draw_case(np.ones((3, 20, 20)), box, np.roll(box, 2, axis=2), names=NAMES, title="case")
    drawn = [
        (line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines if np.size(line.get_xdata())
    ]
    truth = [look for look in drawn if look[0] == "#ffffff"]
    assert len(truth) >= 2
    assert {style for _, style in truth} == {"--"}
    own = structure_colours(NAMES)
    assert sorted(set(drawn) - set(truth)) == sorted(
        (tuple(level / 255 for level in own[label]), "-") for label in (1, 3)
    )
    named = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert named == [*(f"{name}, predicted" for name in NAMES[1:]), "truth, of every class"]
    style = next(line for line in STYLE.read_text().splitlines() if line.startswith(".truth"))
    assert "stroke: #fff;" in style
    assert "stroke-dasharray: 4 3;" in style


@pytest.mark.real
def test_real_scans(real_data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(real_data / "acdc")
    dataset = replace(dataset, items=dataset.items[:3])
    truths = {ref.image: load_label(ref) for ref in dataset.items}

    def predict(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        truth = truths[scan.path]  # type: ignore[index]
        assert truth is not None
        values = np.array([0, 3, 2, 1], np.uint8)[truth.data]  # ACDC: RV 1, MYO 2, LV 3
        return {"FTN": np.roll(values, len(truths[scan.path].data) // 60, axis=0)}  # type: ignore[union-attr,index]

    predictions = Predictions(predict, names=NAMES)
    rows = evaluate(predictions, [dataset], spacing_is_true=False)
    paths = write_pictures(predictions, [dataset], rows, head="FTN", out=tmp_path)
    assert [path.name for path in paths] == [
        f"{dataset.name}_{rank}.png" for rank in ("worst", "median", "best")
    ]
    assert all(0.5 < row["dice"] < 1 for row in rows)


TWO_NAMES = ("background", "LV", "RV")
SHAPE = (40, 30, 5)  # X, Y, Z; slices along Z
AFFINE = np.diag([1.5, 1.0, 8.0, 1.0])


def make_dataset(folder: Path, name: str, volumes: list[tuple[str, str, int]], *, largest: int) -> Dataset:
    """Volumes (patient, phase, copy) whose slice number `largest`, from 0, holds most foreground."""
    items: list[Any] = []
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
    return Dataset(name, folder, "folder", Labels(TWO_NAMES, (0, 1, 2)), tuple(items))


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
    index = write_slices(Predictions(predict, names=TWO_NAMES), datasets, out=tmp_path / "out")
    found = [tuple(e[k] for k in ("dataset", "case", "copy", "slice", "slices", "spacing")) for e in index]
    assert found == [
        ("site1", "p2_ED", 0, 4, 5, [1.0, 1.5]),  # the one with corrupted copies, ED
        ("RandX", "p2_ED_copy1", 1, 4, 5, [1.0, 1.5]),  # the same slice, though another is larger there
        ("site2", "q1", 0, 2, 5, [1.0, 1.5]),
    ]
    ones = Predictions(lambda *_: {"FTN": np.ones(SHAPE, np.uint8)}, names=TWO_NAMES)
    other = write_slices(ones, datasets, out=tmp_path)
    assert other == index  # whatever a model predicts


def test_stored_arrays(datasets: list[Dataset], tmp_path: Path) -> None:
    write_slices(Predictions(predict, names=TWO_NAMES), datasets[:1], out=tmp_path)
    stored = dict(np.load(tmp_path / "slices.npz"))
    assert sorted(stored) == ["0/FTN", "0/FTN+STN", "0/image", "0/truth"]
    assert {array.dtype for array in stored.values()} == {np.dtype(np.uint8)}
    assert len({array.shape for array in stored.values()}) == 1
    truth = stored["0/truth"]
    assert (truth == 2).sum() == 10 * 5  # all of the foreground, rows along Y
    rows, columns = np.nonzero(truth)
    assert (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1) == (5, 10)
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
