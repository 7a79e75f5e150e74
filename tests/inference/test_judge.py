"""What is said of a label map: the flag, scans unlike the training's, and why nothing is expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coopseg.cases.prepare import prepare
from coopseg.inference.judge import UNLIKE, JudgedPredictor, find_calibration, judge
from coopseg.inference.model import load_model
from coopseg.inference.predictor import Predictor
from coopseg.quality.calibration import Calibration
from coopseg.quality.distance import Reference
from coopseg.quality.opinions import Opinions
from coopseg.quality.signs import read_signs
from coopseg.scans.types import Scan

MakeScan = Callable[..., Scan]
NAMES = ("background", "LV", "MYO", "RV")


@pytest.fixture
def opinions(small_model: Path, make_scan: MakeScan) -> Opinions:
    predictor = Predictor.from_model(load_model(small_model))
    return predictor.opinions(prepare(make_scan(40, 50, 3), predictor.settings.cases))


def test_the_expected_dice_is_a_line_of_the_signs_of_what_is_found(
    opinions: Opinions, made_calibration: Calibration
) -> None:
    expected, _ = judge(opinions, made_calibration, NAMES)
    signs = read_signs(opinions, "FTN+STN", NAMES)
    for index, (name, line) in enumerate(made_calibration.lines.items()):
        loss = sum(w * signs[sign][index] for w, sign in zip(line.weights, signs, strict=True)) + line.offset
        found = (opinions.labels("FTN+STN") == index + 1).any()
        assert expected.dice[name] == pytest.approx(max(0, 1 - loss) if found else 0)
        assert expected.low
        assert expected.low[name] <= expected.dice[name]


@pytest.mark.parametrize("limit", [0.0, 1.1])
def test_flagged_below_the_limit(opinions: Opinions, made_calibration: Calibration, limit: float) -> None:
    given = made_calibration.model_copy(update={"limit": limit, "reference": None})
    expected, remarks = judge(opinions, given, NAMES)
    assert expected.flagged == bool(remarks) == (limit > 1)
    if remarks:
        assert remarks[0].text == f"expected Dice {expected.describe()}, flagged below 1.10"


@pytest.mark.parametrize("times", [0.9 * UNLIKE, 1.2 * UNLIKE])
def test_unlike_the_training(opinions: Opinions, made_calibration: Calibration, times: float) -> None:
    channels = len(opinions.code)
    mean = tuple((opinions.code - times).tolist())
    reference = Reference(mean=mean, spread=(1.0,) * channels, farthest=1.0)
    given = made_calibration.model_copy(update={"reference": reference, "limit": 0.0})
    _, remarks = judge(opinions, given, NAMES)
    expected = [f"unlike the scans of the training: {times:.1f} times as far"]
    assert [each.text[: len(expected[0])] for each in remarks] == (expected if times > UNLIKE else [])


def test_why_nothing_is_expected(small_model: Path, made_calibration: Calibration) -> None:
    model = load_model(small_model)
    predictor = Predictor.from_model(model)
    assert find_calibration(model, predictor, "FTN+STN") == (
        None, "no expected Dice: the model is not calibrated; `coopseg calibrate` does it once"
    )  # fmt: skip
    model = replace(model, calibration=made_calibration)
    assert find_calibration(model, predictor, "FTN+STN") == (made_calibration, "")
    _, line = find_calibration(model, predictor, "FTN")
    assert line == (
        "no expected Dice: the model is calibrated for head FTN+STN, these label maps have FTN; `coopseg "
        "calibrate` with the same options mends it"
    )
    _, line = find_calibration(model, Predictor.from_model(model, refinements=2), "FTN+STN")
    assert "is calibrated for refinements 1, these label maps have 2" in line
    _, line = find_calibration(model, Predictor.from_model(model, scan_statistics=3), "FTN+STN")
    assert "calibrated for scan statistics off, these label maps have 3.0" in line


def test_a_judged_predictor_predicts_the_same(
    small_model: Path, make_scan: MakeScan, made_calibration: Calibration
) -> None:
    predictor, scan = Predictor.from_model(load_model(small_model)), make_scan(40, 50, 3)
    heads, expected = JudgedPredictor(predictor, made_calibration, NAMES)(scan, False)
    for head, labels in predictor(scan).items():
        assert np.array_equal(heads[head], labels)
    assert set(expected.dice) == set(NAMES[1:])
