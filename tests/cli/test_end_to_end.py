"""train, predict, corrupt and evaluate by the command line, each on what the one before left."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from coopseg.inference.model import load_model
from coopseg.inference.predictor import Predictor
from coopseg.scans.nifti import read_image, write_image


def test_predict_writes_each_scan_in_its_own_grid(
    coopseg: Callable[..., Any], trained: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    still = phantom["acdc"] / "patientP001" / "patientP001_frame01.nii.gz"
    moving = phantom["mnms"] / "Training" / "Labeled" / "P0H0N0"
    out = tmp_path / "out"
    result = coopseg("predict", "--model", trained, still, moving, "--out", out, "--head", "both")
    assert result.exit_code == 0, result.stderr
    assert "4 label maps" in result.stdout
    names = {str(path.relative_to(out)) for path in out.rglob("*.*")}
    first, second = "acdc/patientP001/patientP001_frame01", "mnms/Training/Labeled/P0H0N0/P0H0N0_sa"
    maps = {f"{name}_{head}.nii.gz" for name in (first, second) for head in ("ftn", "stn")}
    beside = {"labels.json", "labels.ctbl", "labels.txt", "predict.json", "done.jsonl"}
    assert names == {*maps, *beside, "measures.csv", "measures.json"}
    assert f"volumes, ejection fractions, mass: {out / 'measures.csv'}\n" in result.stdout
    listed = json.loads((out / "labels.json").read_text())["labels"]
    assert [entry["name"] for entry in listed] == ["background", "RV", "MYO", "LV"]
    predictor = Predictor.from_model(load_model(trained))
    for name, scan in ((first, still), (second, moving / "P0H0N0_sa.nii.gz")):
        image = nib.Nifti1Image.from_filename(scan)
        expected = predictor.frames(read_image(scan))
        for head, ending in (("FTN", "ftn"), ("FTN+STN", "stn")):
            written = nib.Nifti1Image.from_filename(out / f"{name}_{ending}.nii.gz")
            assert written.shape == image.shape
            assert written.get_data_dtype() == np.uint8
            assert np.array_equal(written.affine, image.affine)
            assert written.header["pixdim"].tobytes() == image.header["pixdim"].tobytes()
            assert written.header.get_xyzt_units() == image.header.get_xyzt_units()
            assert b">MYO</Label>" in written.header.extensions[0].get_content()
            assert np.array_equal(np.asarray(written.dataobj), expected[head])


def test_scan_statistics_are_said_and_recorded(
    coopseg: Callable[..., Any], trained: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    patient = phantom["acdc"] / "patientP001"
    line = "the first two layers adapt to the brightness and contrast of each scan, to a share of 61%"
    verbs = {
        "predict": (patient, "--device=cpu"),
        "evaluate": ("--data", phantom["acdc"], "--split", trained, "--no-pictures", "--spacing=nominal"),
    }
    for verb, words in verbs.items():
        for given, k in (("6.5", 6.5), ("off", None), ("", None)):
            out = tmp_path / (verb + given)
            more = ("--scan-statistics", given) if given else ()
            result = coopseg(verb, "--model", trained, *words, "--out", out, *more)
            assert result.exit_code == 0, result.stderr
            assert result.stderr.count(line) == (k is not None)
            (record,) = (*out.glob("predict.json"), *out.glob("evaluation.json"))
            assert json.loads(record.read_text())["scan_statistics"] == k
    result = coopseg("predict", "--model", trained, patient, "--out", tmp_path / "x", "--scan-statistics=-1")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: scan statistics '-1' cannot be used; give K, a number of slices from 0 up, or off\n",
    )


def test_a_training_that_has_not_ended_is_said(
    coopseg: Callable[..., Any], trained: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    """Its weights are those of a validation midway; a file that was moved out of its folder tells nothing."""
    run, alone = tmp_path / "run", tmp_path / "moved.safetensors"
    shutil.copytree(trained, run)
    shutil.copy(run / "last.safetensors", alone)
    patient = phantom["acdc"] / "patientP001"

    def said(model: Path, out: str) -> tuple[bool, bool | None]:
        result = coopseg("predict", "--model", model, patient, "--out", tmp_path / out, "--device", "cpu")
        assert result.exit_code == 0, result.stderr
        ended = json.loads((tmp_path / out / "predict.json").read_text())["training_ended"]
        return "its training has not ended" in result.stderr, ended

    assert said(run, "whole") == (False, True)
    (run / "run.json").unlink()
    assert said(run, "midway") == (True, False)
    assert said(alone, "alone") == (False, None)


def test_corrupt_then_evaluate_with_the_split_of_the_training(
    coopseg: Callable[..., Any], trained: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    sets, out = tmp_path / "sets", tmp_path / "out"
    grid = ("--set=cases.size=[32,32]", "--set=cases.spacing=6")
    data = ("--data", phantom["acdc"], "--split", trained)
    result = coopseg("corrupt", *data, "--out", sets, "--copies=1", "--workers=1", *grid)
    assert result.exit_code == 0, result.stderr
    result = coopseg("evaluate", "--model", trained, *data, "--data", f"X={sets}", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "warning" not in result.stderr  # the one test patient was not trained on
    kinds = [f"X/{path.name}" for path in sorted(sets.iterdir()) if path.is_dir()]
    assert len(kinds) == 4
    with (out / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys(row["dataset"] for row in rows)) == ["ACDC", *kinds]
    test = json.loads((trained / "run.json").read_text())["split"]["test"]
    assert {row["patient"] for row in rows} == set(test)
    assert {row["head"] for row in rows} == {"FTN", "FTN+STN"}
    assert "measured" in {row["distance"] for row in rows}
    record = json.loads((out / "evaluation.json").read_text())
    assert record["model"]["sha256"] == load_model(trained).sha256
    assert record["split"] == {"name": str(trained), "part": "test"}
    assert len(list((out / "pictures").glob("*.png"))) == 2 * 5
    assert (out / "metrics.md").read_text().startswith("## All volumes")
    assert result.stdout.splitlines()[0].split()[:2] == ["data", "set"]


MEASURED = """
import sys, torch
from coopseg.cli.main import app
from coopseg.training.processes import peak_memory_gb
app(sys.argv[1:], standalone_mode=False)
print(int(peak_memory_gb(torch.device("cpu")) * 2**30))
"""


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_more_scans_take_no_more_memory(trained: Path, tmp_path: Path, verb: str) -> None:
    """The peaks at 100 and at 300 scans, of each of which 64 x 64 x 8 voxels of float32 would be 128 KiB."""
    affine, generator = np.diag([-1.8, -1.8, 8, 1]), np.random.default_rng(0)
    for number in range(300):
        label = np.zeros((64, 64, 8), np.uint8)
        label[20:44, 20 + number % 5 : 40] = 1 + np.arange(8) % 3
        for data in (tmp_path / "300", *([tmp_path / "100"] if number < 100 else [])):
            image = label * 100 + generator.uniform(0, 50, label.shape)
            write_image(data / f"images/p{number:03d}.nii.gz", image, affine=affine)
            write_image(data / f"labels/p{number:03d}.nii.gz", label, affine=affine, dtype=np.uint8)
            (data / "dataset.json").write_text('{"labels": {"RV": 1, "MYO": 2, "LV": 3}}')
    peaks = {}
    for name in ("100", "300"):
        data = tmp_path / name
        words = {
            "predict": ("predict", data / "images"),
            "evaluate": ("evaluate", "--data", data, "--no-pictures"),
        }[verb]
        command = [sys.executable, "-c", MEASURED, *map(str, words), "--model", str(trained), "--device=cpu"]
        done = subprocess.run(
            [*command, "--out", str(tmp_path / f"{name}-{verb}")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        peaks[name] = int(done.stdout.splitlines()[-1])
    assert peaks["300"] - peaks["100"] < 12 * 2**20  # half of 200 such volumes
