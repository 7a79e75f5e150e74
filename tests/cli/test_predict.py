"""`coopseg export`, and the file in the place of a run folder."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from coopseg.config.resolve import resolve_settings
from coopseg.inference.model import LAST, save_model
from coopseg.networks.cooperative import Networks

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights."""
    folder = tmp_path_factory.mktemp("run")
    settings = resolve_settings(overrides={"network.width": 2, "cases.size": (32, 32), "cases.spacing": 4.0})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = Networks(classes=4, **dict(settings.network)).state_dict()
    save_model(folder / LAST, state, settings=settings, names=("background", "RV", "MYO", "LV"))
    return folder


def test_export_predict_and_evaluate(
    coopseg: Callable[..., Any], run: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    how = ("--format", "onnx", "--refine", 2, "--scan-statistics", 6)
    done = coopseg("export", "--model", run, "--out", file, *how)
    assert done.exit_code == 0, done.stderr
    assert f"compared with PyTorch: {file}" in done.stdout
    patient = phantom["acdc"] / "patientP001"
    predict = ("predict", "--model", file, patient, "--out", tmp_path / "maps", "--refine", 2)
    done = coopseg(*predict, "--scan-statistics", "off")
    assert done.exit_code == 2
    assert "exported with scan statistics K = 6, off is asked for" in done.stderr
    done = coopseg(*predict)
    assert done.exit_code == 0, done.stderr
    assert len(list((tmp_path / "maps").glob("*.nii.gz"))) == 2
    done = coopseg(
        "evaluate",
        "--model",
        file,
        "--data",
        phantom["acdc"],
        "--out",
        tmp_path / "e",
        "--refine",
        0,
        "--no-pictures",
    )
    assert done.exit_code == 0, (done.stderr, done.exception)
    with open(tmp_path / "e" / "cases.csv", encoding="utf-8") as table:
        assert {row["head"] for row in csv.DictReader(table)} == {"FTN"}


def test_errors_are_one_line(coopseg: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    done = coopseg("export", "--model", run, "--out", tmp_path / "model")
    assert (done.exit_code, done.stderr) == (
        2,
        f"error: {tmp_path / 'model'}: --out takes the file to write, NAME.onnx\n",
    )
    (tmp_path / "foreign.onnx").write_bytes(b"\x08\x0a")
    done = coopseg("predict", "--model", tmp_path / "foreign.onnx", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
