"""Which cases are drawn, and that contours of all states of a slice can be drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import evaluate
from coopseg.evaluation.pictures import draw_case, pick_cases, write_pictures
from coopseg.evaluation.predictions import Predictions
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label
from coopseg.scans.types import Scan

NAMES = ("background", "LV", "MYO", "RV")


def rows_of(scores: dict[str, tuple[float, ...]]) -> list[dict[str, Any]]:
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


@pytest.mark.real
def test_real_scans(real_data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(real_data / "acdc")
    dataset = replace(dataset, items=dataset.items[:3])
    truths = {ref.image: load_label(ref) for ref in dataset.items}

    def predict(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        truth = truths[scan.path]  # type: ignore[index]
        assert truth is not None
        values = np.array([0, 3, 2, 1], np.uint8)[truth.data]  # ACDC: RV 1, MYO 2, LV 3
        return {"FTN": np.roll(values, len(truths[scan.path].data) // 60, axis=0)}

    predictions = Predictions(predict, names=NAMES)
    rows = evaluate(predictions, [dataset], spacing_is_true=False)
    paths = write_pictures(predictions, [dataset], rows, head="FTN", out=tmp_path)
    assert [path.name for path in paths] == [
        f"{dataset.name}_{rank}.png" for rank in ("worst", "median", "best")
    ]
    assert all(0.5 < row["dice"] < 1 for row in rows)
