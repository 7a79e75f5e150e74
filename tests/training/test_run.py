"""Whole trainings on the phantom: what they write, that they repeat, and how they fail."""

from __future__ import annotations

import json

import pytest
import torch

from coopseg.config.presets import METHODS, PRESETS
from coopseg.errors import CoopsegError
from coopseg.inference.model import load_model
from coopseg.training.loop import READ_EVERY
from coopseg.training.run import train


def weights(run):
    return load_model(run / "last.safetensors").networks.state_dict()


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_writes_its_record_log_and_weights(tiny_train):
    seen = []
    run = tiny_train("run", report=seen.append)
    record = json.loads((run / "run.json").read_text())
    assert record["steps"] == 6
    assert record["settings"]["training"]["steps"] == 6
    assert set(record["split"]) == {"name", "train", "validate", "test"}
    assert record["seconds_per_step"] > 0
    assert record["peak_memory_gb"] > 0
    assert "torch" in record["versions"]
    assert [entry["step"] for entry in record["validations"]] == [2, 4, 6]
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = next(line for line in lines if line["kind"] == "train")
    terms = {"segmentation", "reconstruction", "refined", "shape"}
    assert terms | {"hard_" + term for term in terms} | {"total", "rise", "learning_rate"} <= set(losses)
    assert {progress.kind for progress in seen} == {"train", "validation"}


def test_the_best_weights_are_those_of_the_best_validation(tiny_train):
    run = tiny_train("run")
    record = json.loads((run / "run.json").read_text())
    scores = [entry["FTN+STN"]["mean"] for entry in record["validations"]]
    assert record["best"]["score"] == max(scores)
    assert record["best"]["step"] == record["validations"][scores.index(max(scores))]["step"]
    best_is_last = record["best"]["step"] == record["steps"]
    assert equal(load_model(run).networks.state_dict(), weights(run)) == best_is_last


def test_a_seed_repeats_a_run_bit_for_bit_and_another_does_not(tiny_train):
    first, again, other = tiny_train("a", seed=1), tiny_train("b", seed=1), tiny_train("c", seed=2)
    assert equal(weights(first), weights(again))
    assert not equal(weights(first), weights(other))


def test_training_lowers_the_loss(tiny_train):
    run = tiny_train("run", {"training.steps": 3 * READ_EVERY, "training.validations": 1})
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    totals = [line["total"] for line in lines if line["kind"] == "train"]
    assert totals[-1] < 0.8 * totals[0]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(tiny_train, method):
    run = tiny_train("run", {"training.steps": 2, "training.validations": 1}, method=method)
    assert json.loads((run / "run.json").read_text())["settings"]["method"] == method


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains(phantom, tmp_path, preset):
    settings = {"network.width": 2, "cases.size": (32, 32), "cases.spacing": 6.0, "training.batch_size": 4}
    settings |= {"training.steps": 2, "training.validations": 1}
    run = train(phantom["acdc"], tmp_path / "run", preset=preset, settings=settings, device="cpu")
    heads = set(json.loads((run / "run.json").read_text())["validations"][0]) - {"step"}
    assert heads == ({"FTN"} if preset == "lsm2022" else {"FTN", "FTN+STN"})


def test_averaged_weights_are_saved_and_differ_from_the_last(tiny_train):
    assert not equal(weights(tiny_train("a", {"training.ema": 0.9})), weights(tiny_train("b")))


def test_a_loss_that_is_not_finite_names_its_slices(tiny_train, tmp_path):
    with pytest.raises(CoopsegError, match=r"not finite.*nonfinite\.json"):
        tiny_train("run", {"training.learning_rate": 1e30, "training.schedule": "constant"})
    record = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert record["slices"]
    assert all(name.startswith("patient") for name in record["slices"])


def test_a_used_folder_is_refused_and_left_alone(tiny_train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with pytest.raises(CoopsegError, match="not an empty folder"):
        tiny_train("run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_missing_label_is_refused_before_anything_is_written(phantom, tmp_path):
    import shutil

    shutil.copytree(phantom["acdc"], tmp_path / "data")
    for label in (tmp_path / "data").glob("patient00[1-6]/*_gt.nii.gz"):
        label.unlink()
    with pytest.raises(CoopsegError, match="label"):
        train(tmp_path / "data", tmp_path / "run", preset="cpu", device="cpu")
    assert not (tmp_path / "run").exists()
