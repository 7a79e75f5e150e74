"""Whole trainings on the phantom: what they write, that they repeat, and how they fail."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from coopseg.cases.collect import load_cases
from coopseg.config.methods import METHODS, PRESETS
from coopseg.config.resolve import resolve_settings
from coopseg.errors import CoopsegError
from coopseg.inference.model import BEST, load_model
from coopseg.inference.predictor import Predictor
from coopseg.scans.layouts import open_dataset
from coopseg.scans.nifti import read_labels
from coopseg.training.inputs import ValidationSet, validate
from coopseg.training.loop import Progress
from coopseg.training.run import train

TINY = {
    "network.width": 2, "cases.size": (32, 32), "cases.spacing": 6.0, "training.batch_size": 4,
    "training.steps": 6, "training.validations": 3,
}  # fmt: skip


@pytest.fixture
def tiny_train(phantom: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """train(name, settings, ...) on the phantom at 32 × 32; returns the run folder."""

    def run(name: str, settings: Any = (), **arguments: Any) -> Path:
        wanted = {**TINY, **dict(settings)}
        return train(
            phantom["acdc"],
            tmp_path / name,
            preset="cpu",
            **{"method": "cooperative", "settings": wanted, "device": "cpu", **arguments},
        )

    return run


def weights(run: Path) -> dict[str, Tensor]:
    networks: Any = load_model(run / "last.safetensors").networks
    return dict(networks.state_dict())


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def finished(
    phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Progress]]:
    """A finished run and the progress it reported."""
    seen: list[Any] = []
    out = tmp_path_factory.mktemp("finished") / "run"
    how: dict[str, Any] = {
        "preset": "cpu",
        "method": "cooperative",
        "settings": TINY,
        "seed": 3,
        "device": "cpu",
    }
    train(phantom["acdc"], out, **how, progress=seen.append)
    return out, seen


def test_a_run_writes_its_record(finished: tuple[Path, list[Progress]], phantom: dict[str, Path]) -> None:
    record = json.loads((finished[0] / "run.json").read_text())
    # the last axis is that of every phantom's slices, and its one channel has no name
    given = {**TINY, "cases.trained_axis": 2, "cases.channels": [""]}
    settings = resolve_settings(preset="cpu", method="cooperative", overrides=given, seed=3)
    assert record["settings"] == settings.model_dump(mode="json")
    assert record["settings"]["seed"] == 3
    parts = [record["split"][part] for part in ("train", "validate", "test")]
    assert sorted(name for part in parts for name in part) == [
        f"patientP{number:03d}" for number in range(1, 7)
    ]
    assert all(parts)
    start = finished[1][0]
    assert start.kind == "start"
    assert str(start.values["crop"]).startswith(
        "the crop of 32 x 32 pixels of 6 mm cuts up to 0.1% of a class; "
    )
    frames = [path for name in parts[0] for path in (phantom["acdc"] / name).glob("*_gt.nii.gz")]
    assert record["slices"] == sum(read_labels(path).data.shape[2] for path in frames)
    assert record["steps"] == 6
    assert 0 < record["seconds_per_step"] * 6 < record["seconds"]
    assert record["peak_memory_gb"] > 0.05
    assert record["versions"]["torch"] == torch.__version__
    assert record["started"] <= time.strftime("%Y-%m-%dT%H:%M:%S")
    assert [entry["step"] for entry in record["validations"]] == [2, 4, 6]


def test_a_run_logs_every_term_and_rise(finished: tuple[Path, list[Progress]]) -> None:
    out, seen = finished
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = next(line for line in lines if line["kind"] == "train")
    terms = {"segmentation", "dice", "reconstruction", "refined", "shape"}
    assert set(losses) == {
        "kind", "step", "total", "learning_rate", "rise", *terms, *("hard_" + term for term in terms)
    }  # fmt: skip
    assert {name.split("/")[0] for name in losses["rise"]} == {"image", "shape"}
    assert losses["total"] == pytest.approx(
        sum(losses[p + t] * (0.5 if t == "reconstruction" else 1) for t in terms for p in ("", "hard_")),
        rel=1e-5,
    )
    assert [(p.kind, p.step) for p in seen] == [(line["kind"], line["step"]) for line in lines]


def test_the_saved_weights_reach_the_recorded_dice(
    finished: tuple[Path, list[Progress]], phantom: dict[str, Path]
) -> None:
    run = finished[0]
    record = json.loads((run / "run.json").read_text())
    models = {name: load_model(run / name) for name in ("", *BEST.values())}
    model = models[""]
    dataset = open_dataset(phantom["acdc"])
    cases = load_cases(dataset, model.settings.cases, names=model.names, patients=record["split"]["validate"])
    data = ValidationSet.from_cases(cases, dataset.labels, model.names)
    reached = {name: validate(Predictor.from_model(model), data) for name, model in models.items()}
    assert {"step": 6, **reached[""]} == record["validations"][-1]
    for head, name in BEST.items():
        scores = {entry["step"]: entry[head]["mean"] for entry in record["validations"]}
        best = record["best"][head]
        assert best == {"step": max(scores, key=lambda step: scores[step]), "score": max(scores.values())}
        assert reached[name][head]["mean"] == best["score"]


def test_validation_predicts_by_scan_statistics_as_the_model_will(
    tiny_train: Callable[..., Path], phantom: dict[str, Path]
) -> None:
    short = {"training.steps": 2, "training.validations": 1}
    run = tiny_train("run", {**short, "prediction.scan_statistics": 6})
    record, model = json.loads((run / "run.json").read_text()), load_model(run)
    assert record["settings"]["prediction"] == {"scan_statistics": 6.0, "head": "FTN+STN"}
    dataset = open_dataset(phantom["acdc"])
    cases = load_cases(dataset, model.settings.cases, names=model.names, patients=record["split"]["validate"])
    data = ValidationSet.from_cases(cases, dataset.labels, model.names)
    recorded = record["validations"][-1]
    assert {"step": 2, **validate(Predictor.from_model(model), data)} == recorded
    assert {"step": 2, **validate(Predictor.from_model(model, scan_statistics="off"), data)} != recorded
    assert equal(weights(run), weights(tiny_train("off", short)))  # it has no part in the training


def test_a_seed_repeats_a_run_bit_for_bit_and_another_does_not(
    tiny_train: Callable[..., Path], tmp_path: Path
) -> None:
    split = tmp_path / "split.json"  # else the seed draws the patients too
    split.write_text(json.dumps({"train": ["patientP001", "patientP002"], "validate": ["patientP003"]}))
    runs: list[Any] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(runs))  # nothing may hang on the global generator
        short = {"training.steps": 3, "training.validations": 1}
        runs.append(tiny_train(name, short, seed=seed, split=str(split)))
    first, again, other = (weights(run) for run in runs)
    assert equal(first, again)
    assert not equal(first, other)


def test_a_setting_of_masks_without_masks_is_said(tiny_train: Callable[..., Path]) -> None:
    short = {"training.steps": 2, "training.validations": 1, "latent.p": 0.3}
    said = []
    for method in ("coopseg", "cooperative"):
        run = tiny_train(method, short, method=method)
        said.append(
            [line for line in json.loads((run / "run.json").read_text())["warnings"] if "latent" in line]
        )
    line = "latent.p has no effect: method coopseg has no latent masks; take another, as cooperative"
    assert said == [[line], []]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(tiny_train: Callable[..., Path], method: str) -> None:
    run = tiny_train("run", {"training.steps": 2, "training.validations": 1}, method=method)
    assert json.loads((run / "run.json").read_text())["settings"]["method"] == method


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains(phantom: dict[str, Path], tmp_path: Path, preset: str) -> None:
    settings = {**TINY, "training.steps": 2, "training.validations": 1}
    run = train(phantom["acdc"], tmp_path / "run", preset=preset, settings=settings, device="cpu")
    heads = set(json.loads((run / "run.json").read_text())["validations"][0]) - {"step"}
    assert heads == ({"FTN"} if preset == "lsm2022" else {"FTN", "FTN+STN"})


def test_a_loss_that_is_not_finite_names_its_slices(tiny_train: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match=r"not finite.*nonfinite\.json"):
        tiny_train("run", {"training.learning_rate": 1e30, "training.schedule": "constant"})
    record = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert record["slices"]
    assert all(name.startswith("patient") for name in record["slices"])


def test_a_used_folder_is_refused_and_left_alone(tiny_train: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with pytest.raises(CoopsegError, match="not an empty folder"):
        tiny_train("run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(
    phantom: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CoopsegError, match=r"file/run: cannot be made \(Not a directory\)"):
        train(phantom["acdc"], tmp_path / "file" / "run", preset="cpu", settings=TINY, device="cpu")


def test_a_missing_label_is_refused_before_anything_is_written(
    phantom: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(phantom["acdc"], tmp_path / "data")
    for label in (tmp_path / "data").glob("patientP00[1-6]/*_gt.nii.gz"):
        label.unlink()
    with pytest.raises(CoopsegError, match="label"):
        train(tmp_path / "data", tmp_path / "run", preset="cpu", device="cpu")
    assert not (tmp_path / "run").exists()
