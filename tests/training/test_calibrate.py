"""Calibrating with the training's own validation patients and with others; what is refused and said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coopseg
from coopseg.cases.prepare import prepare
from coopseg.cases.splits import split_of_run
from coopseg.errors import CoopsegError
from coopseg.evaluation.corruptions import CHOICE_KINDS
from coopseg.inference.model import LAST, load_model
from coopseg.inference.predictor import Predictor
from coopseg.quality.calibration import BAD
from coopseg.scans.load import load_scan
from coopseg.training.calibrate import calibrate, corrupted

TINY = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 6.0, "training.steps": 2}


@pytest.fixture(scope="module")
def trained(phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the phantom; read-only."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return coopseg.train(phantom["acdc"], out, preset="quick", settings=TINY, device="cpu")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_patients_of_another_site(run: Path, phantom: dict[str, Path]) -> None:
    progress: list[tuple[int, int, str]] = []
    said: list[str] = []
    found = calibrate(
        run, phantom["mnms"], device="cpu", bad=0.3, progress=lambda *a: progress.append(a), warn=said.append
    )
    dataset = coopseg.open_dataset(phantom["mnms"])
    assert found.patients == len(dataset.patients)
    assert found.skill.volumes == len(dataset.items) * (1 + len(CHOICE_KINDS))
    assert [entry[:2] for entry in progress][-1] == (len(dataset.items), len(dataset.items))
    assert said[0] == (
        "6 patients: too few for an interval that holds with probability 0.9, which needs 9; the estimate "
        "has none"
    )
    assert said[1:] == [found.caution]
    assert "bad" in found.caution  # six patients are too few, an untrained network too poor
    assert load_model(run).calibration == found
    model = load_model(run)
    predictor = Predictor.from_model(model)
    assert found.reference
    training = coopseg.open_dataset(phantom["acdc"])
    names = split_of_run(run).train
    codes = [
        predictor.opinions(prepare(load_scan(ref), model.settings.cases)).code
        for ref in training.items
        if ref.patient in names
    ]
    np.testing.assert_allclose(found.reference.mean, np.mean(codes, axis=0), rtol=1e-4, atol=1e-6)


def test_an_earlier_one_is_replaced_with_a_word(run: Path, phantom: dict[str, Path]) -> None:
    first = calibrate(run, phantom["mnms"], device="cpu")
    said: list[str] = []
    second = calibrate(run, phantom["mnms"], device="cpu", missed=0.5, warn=said.append)
    assert said[-1] == f"replaces the calibration {first.describe()}"
    assert load_model(run).calibration == second


def test_number_of_workers_does_not_matter(run: Path, phantom: dict[str, Path]) -> None:
    found = [calibrate(run, phantom["mnms"], device="cpu", workers=workers) for workers in (1, 2)]
    first, second = ((each.known, each.source, each.skill.volumes) for each in found)
    assert first == second
    # an untrained network's classes are nearly equal, so that rounding may turn a pixel
    assert found[0].skill.error == pytest.approx(found[1].skill.error, abs=0.02)


def test_patients_of_the_training_are_left_out(run: Path, phantom: dict[str, Path]) -> None:
    said: list[str] = []
    found = calibrate(run, phantom["acdc"], device="cpu", warn=said.append)
    split = split_of_run(run)
    assert found.patients == len(split.validate) + len(split.test)
    assert f"{len(split.train)} patients left out, whose names are those of training" in said[0]


def test_without_the_training_beside_it_scans_must_be_given(run: Path, phantom: dict[str, Path]) -> None:
    alone = run / "alone.safetensors"
    (run / LAST).rename(alone)
    moved = Path(shutil.move(alone, run.parent / "alone.safetensors"))
    with pytest.raises(CoopsegError, match=r"no request.json and run.json .*; give labelled scans .* --data"):
        calibrate(moved, device="cpu")
    said: list[str] = []
    assert calibrate(moved, phantom["mnms"], device="cpu", warn=said.append).reference is None
    assert any("predict will not say which scans are unlike those of the training" in line for line in said)


def test_what_is_refused(run: Path, phantom: dict[str, Path]) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "one patient is too few to calibrate with"),  # six patients have one to validate with
        ({"data": phantom["mnms"], "bad": 1.0}, "bad must lie between 0 and 1, found 1.0"),
        ({"data": phantom["mnms"], "head": "STN"}, "head 'STN' is not there; use FTN"),
    ]
    before = (run / LAST).read_bytes()
    for given, message in cases:
        with pytest.raises(CoopsegError, match=message):
            calibrate(run, device="cpu", **given)
    assert (run / LAST).read_bytes() == before


def test_artefacts_are_those_of_the_copies(phantom: dict[str, Path], run: Path, tmp_path: Path) -> None:
    """As `corrupt --grid published` writes them and `evaluate` reads them, up to rounding in the file."""
    dataset = coopseg.open_dataset(phantom["mnms"])
    settings = load_model(run).settings.cases
    folders = coopseg.corrupt(
        dataset, tmp_path / "copies", copies=1, kinds="choice", grid="published", settings=settings, workers=1
    )
    ref = dataset.items[0]
    clean = prepare(load_scan(ref), settings)
    for folder in folders:
        copy = next(item for item in coopseg.open_dataset(folder).items if item.id.startswith(ref.id))
        expected = prepare(load_scan(copy), settings, normalised=copy.normalised).image
        np.testing.assert_allclose(corrupted(clean, folder.name, ref.id).image, expected, atol=1e-4)


def test_on_the_console(
    coopseg: Callable[..., Any], run: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    found = coopseg("calibrate", "--model", run, "--data", phantom["mnms"], "--device", "cpu")
    assert found.exit_code == 0, found.stderr
    calibration = load_model(run).calibration
    assert calibration
    skill, lines = calibration.skill, found.stdout.splitlines()
    assert lines[0] == (
        f"FTN, 6 patients: {skill.volumes} label maps, {skill.bad} of them bad (mean Dice below {BAD})"
    )
    assert f"the expected Dice of a structure is {skill.error:.3f} off on average" in lines[1]
    assert f"stored in {run / LAST}; next: " in lines[3]
    scan = next(phantom["mnms"].rglob("*_sa.nii.gz"))
    found = coopseg("predict", scan, "--model", run, "--out", tmp_path / "out", "--device", "cpu")
    assert "expected Dice 0." in found.stderr
    scores = tmp_path / "scores"
    found = coopseg("evaluate", "--model", run, "--data", phantom["mnms"], "--out", scores, "--device", "cpu")
    assert ", 12 volumes: expected Dice 0." in found.stdout
    assert "6 of 6 patients bear names of those that the model was calibrated with" in found.stderr
    assert (scores / "quality.csv").is_file()
