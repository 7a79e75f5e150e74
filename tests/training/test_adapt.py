"""Adapting to scans without labels: what is written, what is said, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import coopseg
from coopseg.cases.splits import ADAPTED, REQUEST, RUN, split_of_run
from coopseg.errors import CoopsegError
from coopseg.evaluation.subject import load_subject
from coopseg.inference.model import LAST, load_model
from coopseg.inference.predictor import Predictor
from coopseg.results.remarks import validation_of
from coopseg.training import adapt as module
from coopseg.training.adapt import adapt
from coopseg.training.calibrate import calibrate

TINY = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 6.0, "training.steps": 2}


@pytest.fixture(scope="module")
def trained(phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the phantom; read-only."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return coopseg.train(phantom["acdc"], out, preset="quick", settings=TINY, device="cpu")


def test_writes_a_model_that_differs_in_statistics_alone(
    trained: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    out, counted = tmp_path / "adapted", list[tuple[int, int, str]]()
    found = adapt(
        trained, phantom["mnms"], out, share=0.5, device="cpu", progress=lambda *e: counted.append(e)
    )
    dataset = coopseg.open_dataset(phantom["mnms"])
    files = {item.image for item in dataset.items}
    phases = {file: nib.load(file).shape[3] for file in files}  # type: ignore[attr-defined]
    assert found.volumes == sum(phases.values())
    assert counted[-1][:2] == (len(files), len(files))
    before, after = (load_model(folder) for folder in (trained, out))
    assert isinstance(before.networks, nn.Module)
    assert isinstance(after.networks, nn.Module)
    own = before.networks.state_dict()
    changed = {n for n, value in after.networks.state_dict().items() if not torch.equal(value, own[n])}
    assert {name.rsplit(".", 1)[1] for name in changed} == {"running_mean", "running_var"}
    assert {name.split(".")[0] for name in changed} == {"image_encoder"}
    record = json.loads((out / ADAPTED).read_text())
    assert (record["model_sha256"], record["sha256"]) == (before.sha256, after.sha256)
    assert (record["share"], record["steps"], record["volumes"]) == (0.5, 0, found.volumes)
    assert record["data"] == [str(phantom["mnms"])]
    assert record["validation"] == {"before": found.before, "after": found.after}
    assert (out / REQUEST).read_bytes() == (trained / REQUEST).read_bytes()
    assert split_of_run(out) == split_of_run(trained)
    made = coopseg.predict(out, dataset.items[0].image, tmp_path / "maps", device="cpu")
    assert made[0].is_file()


def test_steps_train_the_weights_too(trained: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    counted: list[tuple[int, int, str]] = []
    adapt(
        trained, phantom["mnms"], tmp_path / "a", steps=2, device="cpu",
        progress=lambda *e: counted.append(e),
    )  # fmt: skip
    assert [entry[:2] for entry in counted[-2:]] == [(1, 2), (2, 2)]
    weights = [
        load_file(folder / LAST)["segmentation_decoder.out.weight"] for folder in (trained, tmp_path / "a")
    ]
    assert not torch.equal(*weights)


def test_says_what_the_old_site_loses(
    trained: Path, phantom: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.8, 0.79, 0.8, 0.796])
    monkeypatch.setattr(module, "validate", lambda *_: {"FTN": {"mean": next(scores)}})
    monkeypatch.setattr(Predictor, "default_head", "FTN")
    for name, loss in (("much", True), ("little", False)):
        said: list[str] = []
        found = adapt(trained, phantom["mnms"], tmp_path / name, share=0.6, device="cpu", warn=said.append)
        assert [line for line in said if "loses" in line] == (
            [
                "the training's own site loses 0.010 of Dice (validation patients, FTN): use the adapted "
                "model for the new site only, or a smaller share or fewer steps"
            ]
            if loss
            else []
        )
        assert found.gained == pytest.approx(-0.01 if loss else -0.004)


@pytest.mark.parametrize(
    ("expected", "share", "taken", "said"),
    [
        ([0.7, 0.71, 0.74, 0.72], None, 0.6, None),
        (
            [0.7, 0.69, 0.68, 0.65],
            None,
            0.0,
            "of no share more Dice is expected than of the model as it is (0.700 as it was, 0.690 with share "
            "0.3, 0.680 with share 0.6, 0.650 with share 1)",
        ),
        (
            [0.7, 0.65],
            0.5,
            0.5,
            "less Dice is expected of the new scans than before (0.700 as it was, 0.650 with share 0.5): "
            "keep the old model",
        ),
    ],
)
def test_the_calibration_chooses_the_share(
    trained: Path,
    phantom: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: list[float],
    share: float | None,
    taken: float,
    said: str | None,
) -> None:
    values, lines = iter(expected), list[str]()
    monkeypatch.setattr(module, "_expect", lambda *_: next(values))
    monkeypatch.setattr(module, "find_calibration", lambda *_: ("a calibration", ""))
    found = adapt(trained, phantom["mnms"], tmp_path / "out", share=share, device="cpu", warn=lines.append)
    assert found.share == taken
    assert [line for line in lines if "Dice is expected" in line] == ([said] if said else [])
    assert list(found.expected.values()) == expected
    assert (load_model(tmp_path / "out").sha256 == load_model(trained).sha256) == (taken == 0)
    assert json.loads((tmp_path / "out" / ADAPTED).read_text())["expected"] == dict(found.expected)


def test_expects_by_the_calibration(trained: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    """As predict does, of the same scans; a model without one says why nothing is told."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    calibrate(run, phantom["mnms"], device="cpu")
    found = adapt(run, phantom["mnms"], tmp_path / "out", device="cpu")
    coopseg.predict(run, phantom["mnms"], tmp_path / "maps", device="cpu")
    scans = json.loads((tmp_path / "maps" / "predict.json").read_text())["scans"]
    means = [phase["mean"] for scan in scans for phase in scan["expected"]]
    assert found.expected["0"] == pytest.approx(np.mean(means), abs=1e-6)
    said: list[str] = []
    plain = adapt(trained, phantom["mnms"], tmp_path / "plain", device="cpu", warn=said.append)
    assert (plain.share, plain.expected) == (0.6, {})
    assert any(line.endswith("whether the new scans gain is not told") for line in said)


def test_scans_without_labels_of_several_phases(trained: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(2):
        data = generator.random((40, 40, 4, 3)).astype(np.float32)
        nib.save(nib.Nifti1Image(data, np.diag([1.5, 1.5, 8, 1])), tmp_path / f"scan{number}.nii.gz")
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / RUN).unlink()
    said: list[str] = []
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    found = adapt(
        tmp_path / "run" / LAST, tmp_path / "*.nii.gz", tmp_path / "out", device="cpu", warn=said.append
    )
    assert (found.volumes, found.before, found.gained) == (6, None, None)
    assert any(line.startswith(f"left out: {tmp_path / 'broken.nii.gz'}") for line in said)
    assert any(line.startswith("3 scans: few to tell a scanner by") for line in said)
    assert any(line.endswith("what the training's own site loses is not measured") for line in said)


def test_a_calibration_is_not_carried_over(trained: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    calibrate(run, phantom["mnms"], device="cpu")
    said: list[str] = []
    adapt(run, phantom["mnms"], tmp_path / "out", share=0.5, device="cpu", warn=said.append)
    assert load_model(tmp_path / "out").calibration is None
    assert said[-1].startswith("the calibration is not carried over")


def test_a_model_that_stays_keeps_its_calibration(
    trained: Path, phantom: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    known = calibrate(run, phantom["mnms"], device="cpu")
    values = iter([0.7, 0.6, 0.6, 0.6])
    monkeypatch.setattr(module, "_expect", lambda *_: next(values))
    said: list[str] = []
    adapt(run, phantom["mnms"], tmp_path / "out", device="cpu", warn=said.append)
    assert load_model(tmp_path / "out").calibration == known
    assert not any("carried over" in line for line in said)


def test_evaluate_says_that_it_was_adapted(trained: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    adapt(trained, phantom["mnms"], tmp_path / "out", device="cpu")
    assert validation_of(trained / LAST)
    assert validation_of(tmp_path / "out" / LAST) == {}  # run.json speaks of the model before
    said = load_subject(tmp_path / "out", device="cpu").warnings([coopseg.open_dataset(phantom["mnms"])])
    assert [line for line in said if "was adapted to scans without their labels" in line]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"share": 0.0}, "share must be above 0"),
        ({"share": 1.5}, "share must be above 0"),
        ({"steps": -1}, "steps must be 0 or more"),
    ],
)
def test_refuses(trained: Path, phantom: dict[str, Path], tmp_path: Path, given: Any, found: str) -> None:
    with pytest.raises(CoopsegError, match=found):
        adapt(trained, phantom["mnms"], tmp_path / "out", device="cpu", **given)
    assert not (tmp_path / "out").exists()


def test_refuses_networks_of_another_kind(phantom: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("monai")
    run = coopseg.train(
        phantom["acdc"], tmp_path / "run", preset="quick", method="monai-unet", settings=TINY, device="cpu"
    )
    with pytest.raises(CoopsegError, match="published networks and U-Nets of this package only"):
        adapt(run, phantom["mnms"], tmp_path / "out", device="cpu")
