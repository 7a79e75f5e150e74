"""A model's evaluation as a whole: data sets by folder and name, warnings, and what is written."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from coopseg.config.resolve import resolve_settings
from coopseg.errors import CoopsegError, PartlyDone
from coopseg.evaluation.run import evaluate_model, name_and_folder, open_datasets
from coopseg.inference.model import LAST, load_model, save_model
from coopseg.inference.predictor import Predictor
from coopseg.networks.cooperative import Networks
from coopseg.scans.layouts import notes_on
from coopseg.scans.nifti import read_image, write_image, write_labels
from coopseg.scans.types import Scan

pytestmark = pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage`:DeprecationWarning")

NAMES = ("background", "RV", "MYO", "LV")
TINY = {"network.width": 1, "cases.size": (32, 32), "cases.spacing": 6.0}
SPLIT = {
    "name": "random-0",
    "train": ["patientP001", "patientP002"],
    "validate": ["patientP003"],
    "test": ["patientP004"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of random weights."""
    folder = tmp_path_factory.mktemp("run")
    settings = resolve_settings(method="cooperative", overrides=TINY)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = Networks(classes=4, **dict(settings.network)).state_dict()
    save_model(folder / LAST, state, settings=settings, names=NAMES)
    (folder / "run.json").write_text(json.dumps({"split": SPLIT}))
    return folder


def test_the_part_of_a_split(model: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = evaluate_model(
        model, phantom["acdc"], out, split=model, spacing="nominal", device="cpu", pictures=False
    )
    assert found.warnings == ()
    assert {row["patient"] for row in found.rows} == {"patientP004"}
    assert {row["distance"] for row in found.rows} == {"spacing unknown"}
    assert sorted(path.name for path in out.iterdir()) == [
        "cases.csv",
        "done.jsonl",
        "evaluation.json",
        "metrics.json",
        "metrics.md",
    ]
    with (out / "cases.csv").open() as file:
        scores = [float(row["dice"]) for row in csv.DictReader(file)]
    assert np.allclose(scores, [row["dice"] for row in found.rows])
    record = json.loads((out / "evaluation.json").read_text())
    assert (record["spacing"], record["refinements"], record["warnings"]) == ("nominal", 1, [])
    assert record["data"][0]["patients"] == ["patientP004"]
    assert record["data"][0]["domain"] == "intra"
    assert record["slices"] == []


def test_patients_of_the_training_are_noticed(model: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"spacing": "nominal", "device": "cpu", "pictures": False, "refinements": 0}
    data = [str(phantom["acdc"]), f"other={phantom['mnms']}"]
    found = evaluate_model(model, data, tmp_path / "out", **arguments)
    warning, spacing = found.warnings
    assert "pixels of 4.02 x 4.02 mm" in spacing
    assert warning.startswith("ACDC: 3 of 6 patients bear names of training or validation patients")
    assert "(patientP001, patientP002, patientP003)" in warning
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["warnings"] == [warning, spacing]
    assert {row["dataset"] for row in found.rows} == {"ACDC", "other"}
    assert {row["head"] for row in found.rows} == {"FTN"}
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [entry["domain"] for entry in record["data"]] == ["intra", "other"]
    lone = shutil.copy(model / LAST, tmp_path / "lone.safetensors")
    (warning,) = evaluate_model(
        lone, phantom["acdc"], tmp_path / "2", split=model, part="validate", **arguments
    ).warnings
    assert "run.json: not found" in warning


def test_data_sets_by_folder_and_name(phantom: dict[str, Path], tmp_path: Path) -> None:
    corrupted = tmp_path / "x=y" / "corrupted"
    for kind in ("B", "A"):
        shutil.copytree(
            phantom["acdc"] / "patientP001", corrupted / kind, ignore=shutil.ignore_patterns("*.cfg")
        )
        (corrupted / kind / "dataset.json").write_text(json.dumps({"name": kind, "labels": {"LV": 3}}))
    (corrupted / "manifest.json").write_text("{}")
    names = [dataset.name for dataset in open_datasets([corrupted, f"mine={corrupted}", phantom["mnms"]])]
    assert names == ["A", "B", "mine/A", "mine/B", "M&Ms"]
    assert [dataset.name for dataset in open_datasets(f"n={phantom['acdc']}")] == ["n"]
    named = open_datasets(phantom["acdc"], labels="LV=3,MYO=2,RV=1,thing=4")[0]
    assert "thing" in named.labels.names
    assert "thing" not in open_datasets(phantom["acdc"], labels="thing=1", rename=False)[0].labels.names
    with pytest.raises(CoopsegError, match="two data sets are called 'ACDC'; name them"):
        open_datasets([phantom["acdc"], phantom["acdc"]])


def test_labels_are_for_data_sets_that_name_none(
    model: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    """M&Ms has its own values beside a plain folder whose values are named on the command line."""
    for kind, mark in (("images", ""), ("labels", "_gt")):
        (tmp_path / "mine" / kind).mkdir(parents=True)
        source = phantom["acdc"] / "patientP001" / f"patientP001_frame01{mark}.nii.gz"
        shutil.copy(source, tmp_path / "mine" / kind / "smith_ED.nii.gz")
    both = [tmp_path / "mine", phantom["mnms"]]
    arguments: dict[str, Any] = {"device": "cpu", "pictures": False, "workers": 1}
    found = evaluate_model(model, both, tmp_path / "both", labels="RV=1,MYO=2,LV=3", **arguments)
    alone = evaluate_model(model, phantom["mnms"], tmp_path / "alone", **arguments)
    own = [row | {"seconds": 0} for row in found.rows if row["dataset"] == "M&Ms"]
    assert own == [row | {"seconds": 0} for row in alone.rows]
    assert {row["class"] for row in found.rows} == {"RV", "MYO", "LV"}
    assert "M&Ms: names its labels itself; --labels is not used for it" in found.warnings


def test_labels_that_contradict_a_data_set_are_said(phantom: dict[str, Path]) -> None:
    said = "--labels RV=1, MYO=2, LV=3 is used, but the data set itself says LV=1, MYO=2, RV=3"
    assert notes_on(open_datasets(phantom["mnms"], labels="RV=1,MYO=2,LV=3")[0]) == [said]
    assert notes_on(open_datasets(phantom["acdc"], labels="RV=1,MYO=2,left ventricle=3")[0]) == []
    assert notes_on(open_datasets(phantom["acdc"], labels="RV=1,MYO=2,LV=3,thing=4")[0]) == []


def test_name_and_folder(tmp_path: Path) -> None:
    assert name_and_folder("a=b/c=d") == ("a", Path("b/c=d"))
    assert name_and_folder("b/c=d") == ("", Path("b/c=d"))
    (tmp_path / "a=b").mkdir()
    assert name_and_folder(tmp_path / "a=b") == ("", tmp_path / "a=b")


def test_slices_are_stored_with_pictures(model: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    evaluate_model(model, phantom["acdc"], tmp_path / "out", split=model, spacing="nominal", device="cpu")
    (entry,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["slices"]
    assert (entry["dataset"], entry["case"]) == ("ACDC", "patientP004_ED")
    with np.load(tmp_path / "out" / "slices.npz") as stored:
        assert set(stored) == {"0/image", "0/truth", "0/FTN", "0/FTN+STN"}
    assert len(list((tmp_path / "out" / "pictures").iterdir())) > 0


@pytest.mark.parametrize("k", [None, 6.0])
def test_scores_and_pictures_do_not_depend_on_workers(
    model: Path, phantom: dict[str, Path], tmp_path: Path, k: float | None
) -> None:
    options: dict[str, Any] = {"split": model, "part": "train", "device": "cpu", "scan_statistics": k}
    found = {}
    for workers in (1, 3):
        out = tmp_path / str(workers)
        rows = evaluate_model(model, phantom["acdc"], out, workers=workers, **options).rows
        assert json.loads((out / "evaluation.json").read_text())["scan_statistics"] == k
        pictures = {path.name: path.read_bytes() for path in (out / "pictures").iterdir()}
        table = pd.DataFrame([{**row, "seconds": 0} for row in rows])
        found[workers] = table, pictures, (out / "slices.npz").read_bytes()
    pd.testing.assert_frame_equal(found[1][0], found[3][0], check_exact=True)
    assert found[1][1:] == found[3][1:]


def test_no_volume_is_predicted_twice(
    model: Path, phantom: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, calls = Predictor.__call__, []

    def counting(self: Predictor, scan: Scan, normalised: bool = False) -> dict[str, np.ndarray]:
        calls.append(scan.path)
        return predict(self, scan, normalised)

    monkeypatch.setattr(Predictor, "__call__", counting)
    evaluate_model(model, phantom["acdc"], tmp_path / "out", split=model, spacing="nominal", device="cpu")
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == len(calls) == len(set(calls)) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_left_after_an_error(
    model: Path, phantom: dict[str, Path], tmp_path: Path, workers: int
) -> None:
    data = shutil.copytree(phantom["acdc"], tmp_path / "data")
    for label in data.rglob("*_gt.nii.gz"):
        label.write_bytes(label.read_bytes()[:-50])
    with pytest.raises(CoopsegError, match="truncated") as caught:
        evaluate_model(model, data, tmp_path / "out", spacing="nominal", device="cpu", workers=workers)
    assert not isinstance(caught.value, PartlyDone)
    with pytest.raises(CoopsegError, match="spacing 'maybe'"):
        evaluate_model(model, data, tmp_path / "out", spacing="maybe", device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("window", "normalised", "value", "said"),
    [
        (None, False, 0.0, "percentiles 2 and 98 of the volume are both 0"),
        (None, False, 7.0, "percentiles 2 and 98 of the volume are both 7"),
        ((0.0, 10.0), False, 7.0, "every voxel is 7"),
        (None, True, 0.5, "every voxel is 0.5"),
    ],
)
def test_blank_scans_are_said_and_scored_as_they_are_predicted(
    tmp_path: Path, window: tuple[float, float] | None, normalised: bool, value: float, said: str
) -> None:
    """One label map holds a structure, the other none: Dice is by counting, 1 where both maps are empty."""
    settings = resolve_settings(overrides=TINY | {"cases.window": window})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = Networks(classes=3, **dict(settings.network)).state_dict()
    save_model(tmp_path / LAST, state, settings=settings, names=("background", "LV", "MYO"))
    data, affine = tmp_path / "data", np.diag([-3.0, -3, 9, 1])
    drawn = np.zeros((20, 24, 2), np.uint8)
    drawn[5:12, 6:15] = 1
    for name, label in (("drawn", drawn), ("empty", 0 * drawn)):
        write_image(data / f"images/{name}.nii.gz", np.full(drawn.shape, value), affine=affine)
        write_image(data / f"labels/{name}.nii.gz", label, affine=affine, dtype=np.uint8)
    description = {"name": "toy", "labels": {"LV": 1, "MYO": 2}, "normalised": normalised}
    (data / "dataset.json").write_text(json.dumps(description))
    found = evaluate_model(tmp_path / LAST, data, tmp_path / "out", device="cpu")
    line = found.warnings[-1]
    assert line == f"toy, drawn, toy, empty: image: {said}, the case is blank"
    predictor = Predictor.from_model(load_model(tmp_path / LAST))
    scan = read_image(data / "images/drawn.nii.gz")
    for head, labels in predictor(scan, normalised=normalised).items():
        for case, target in (("drawn", drawn), ("empty", 0 * drawn)):
            for value_of, name in ((1, "LV"), (2, "MYO")):
                a, b = labels == value_of, target == value_of
                expected = 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1
                (row,) = [
                    row for row in found.rows
                    if (row["head"], row["case"], row["class"]) == (head, case, name)
                ]  # fmt: skip
                assert row["dice"] == pytest.approx(expected)


def test_bad_volumes_do_not_keep_the_others(model: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    """One label is cut short, one image is a link to nothing, one label has another grid; a scan is blank."""
    data, out = shutil.copytree(phantom["acdc"], tmp_path / "data"), tmp_path / "out"
    arguments: dict[str, Any] = {"device": "cpu", "refinements": 0, "workers": 2, "spacing": "nominal"}
    whole = evaluate_model(model, data, tmp_path / "whole", **arguments, pictures=False)
    cut, lost, other = (data / f"patientP00{n}/patientP00{n}_frame01" for n in (1, 2, 3))
    label, image = (Path(f"{path}.nii.gz") for path in (f"{cut}_gt", lost))
    label.write_bytes(label.read_bytes()[:-50])
    content = image.read_bytes()
    image.unlink()
    image.symlink_to("nowhere")
    scan = read_image(Path(f"{other}_gt.nii.gz"))
    smaller = scan.data[1:].astype(np.uint8)
    write_labels(Path(f"{other}_gt.nii.gz"), smaller, like=Scan(smaller, scan.affine))
    blank = data / "patientP004/patientP004_frame01.nii.gz"
    write_image(blank, 0 * read_image(blank).data, affine=read_image(blank).affine)
    with pytest.raises(PartlyDone, match="3 of 12 scans failed") as caught:
        evaluate_model(model, data, out, **arguments)
    for error, reason in zip(
        caught.value.failed, ("truncated", "a link to nothing", "give the label drawn on"), strict=True
    ):
        assert reason in str(error)
    found = caught.value.done
    (said,) = [line for line in found.warnings if "left out" in line]
    assert said.startswith("ACDC: 3 of 12 volumes left out")
    assert said in (out / "metrics.md").read_text()
    assert any("patientP004_ED: image: percentiles" in line for line in found.warnings)
    record = json.loads((out / "evaluation.json").read_text())
    assert record["failed"] == [str(error) for error in caught.value.failed]
    assert (record["data"][0]["volumes"], said in record["warnings"]) == (9, True)

    image.unlink()
    image.write_bytes(content)
    with pytest.raises(PartlyDone, match="2 of 12 scans failed") as again:
        evaluate_model(model, data, out, **arguments, resume=True, pictures=False)
    assert again.value.done.note == "9 volumes done before, not done again"
    expected = [
        row | {"seconds": 0}
        for row in whole.rows
        if row["case"] not in ("patientP001_ED", "patientP003_ED", "patientP004_ED")
    ]
    rows = [row for row in again.value.done.rows if row["case"] != "patientP004_ED"]
    pd.testing.assert_frame_equal(
        pd.DataFrame([row | {"seconds": 0} for row in rows]), pd.DataFrame(expected), check_exact=True
    )
    assert any("patientP004_ED: image: percentiles" in line for line in again.value.done.warnings)
    for other_facts, key in (({"spacing": "true"}, "spacing"), ({"refinements": 1}, "refinements")):
        with pytest.raises(CoopsegError, match=f"holds results of a command with {key} = "):
            evaluate_model(model, data, out, **arguments | other_facts, resume=True)
