"""Where label maps go, what is said about them, and that nothing is written by halves."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coopseg.inference.predict as module
from coopseg.config.resolve import resolve_settings
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError, PartlyDone
from coopseg.inference.facts import Facts, ModelFacts
from coopseg.inference.judge import JudgedPredictor
from coopseg.inference.model import LAST, load_model, store_calibration
from coopseg.inference.predict import Predicted, output_paths, predict
from coopseg.inference.predictor import Predictor
from coopseg.quality.calibration import Calibration
from coopseg.scans.nifti import read_image, read_labels, write_image
from coopseg.scans.types import Scan

MakeScan = Callable[..., Scan]


@pytest.fixture
def scans(tmp_path: Path, make_scan: MakeScan) -> Path:
    """in/a/x, in/b/x and in/b/moving of four frames, with a label beside one."""
    folder = tmp_path / "in"
    for name, shape in (("a/x", (40, 50, 4)), ("b/x", (30, 20, 3)), ("b/moving", (20, 24, 3, 2))):
        scan = make_scan(*shape, seed=len(name))
        write_image(folder / f"{name}.nii.gz", scan.data, affine=scan.affine)
    write_image(folder / "a" / "x_gt.nii.gz", np.zeros((40, 50, 4)), affine=np.eye(4), dtype=np.uint8)
    return folder


def test_each_scan_in_its_own_grid(small_model: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[Any] = []
    paths = predict(small_model, scans, out, device="cpu", progress=seen.append)
    assert [str(p.relative_to(out)) for p in paths] == ["a/x.nii.gz", "b/moving.nii.gz", "b/x.nii.gz"]
    predictor = Predictor.from_model(load_model(small_model))
    for path in paths:
        source = read_image(scans / path.relative_to(out))
        written = read_labels(path)
        assert np.array_equal(written.affine, source.affine)
        assert written.data.dtype == np.uint8
        assert np.array_equal(written.data, predictor.frames(source)["FTN+STN"])
    assert [(entry.number, entry.total) for entry in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(isinstance(entry, Predicted) for entry in seen)


def test_the_record(small_model: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(small_model, [scans / "b" / "moving.nii.gz"], out, device="cpu", head="both", refinements=2)
    record = json.loads((out / "predict.json").read_text())
    assert record["model"]["sha256"] == load_model(small_model).sha256
    assert (record["head"], record["refinements"], record["precision"]) == ("both", 2, "32")
    (entry,) = record["scans"]
    assert entry["outputs"] == {"FTN": "moving_ftn.nii.gz", "FTN+STN": "moving_stn.nii.gz"}
    assert entry["warnings"]
    assert all(re.search(r" \(phases? (1|2|1 to 2) of 2(, most in .)?\)$", s) for s in entry["warnings"])
    assert any("reaches the edge of the crop of 32 x 32 pixels" in line for line in entry["warnings"])
    names = [label["name"] for label in json.loads((out / "labels.json").read_text())["labels"]]
    assert names == ["background", "LV", "MYO", "RV"]
    assert record["versions"]["coopseg"]
    assert record["scan_statistics"] is None


def test_every_patient_is_measured(small_model: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    paths = predict(small_model, scans, out, device="cpu", spacing="nominal")
    with open(out / "measures.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == ["a/x", "moving", "b/x"]
    assert all(row["lv_edv_ml"] == "" for row in rows)
    record = json.loads((out / "measures.json").read_text())
    assert record["spacing"] == "nominal"
    assert [len(patient["phases"]) for patient in record["patients"]] == [1, 2, 1]
    counted = record["patients"][1]["phases"][1]["voxels"]["MYO"]
    assert counted == int((read_labels(paths[1]).data[..., 1] == 2).sum())
    with pytest.raises(CoopsegError, match="spacing 'real' is not known"):
        predict(small_model, scans, tmp_path / "other", device="cpu", spacing="real")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What the model then predicts for every frame: a heart with a loose piece of LV, and no RV."""
    labels = np.zeros((20, 24, 3), np.uint8)
    labels[5:15, 5:15], labels[8:12, 8:12], labels[0, 0, 1] = 2, 1, 1
    monkeypatch.setattr(module, "restore", lambda probabilities, record: labels)
    return labels


def test_in_words_it_is_said_that_label_maps_were_mended() -> None:
    plain = Facts(ModelFacts("runs/a/best.pt", ("background", "LV")))
    words = replace(plain, anatomy="holes", scan_statistics=10.0).in_words("FTN")
    assert (words["anatomy"], words["scan statistics"]) == ("mended (holes)", "K = 10")
    assert not {"anatomy", "scan statistics"} & set(plain.in_words("FTN"))


def test_label_maps_are_mended_if_asked_for(
    small_model: Path, scans: Path, tmp_path: Path, broken: np.ndarray
) -> None:
    out, scan = tmp_path / "out", scans / "b" / "moving.nii.gz"
    (path,) = predict(small_model, scan, out, device="cpu", anatomy=True)
    written = read_labels(path).data
    for index in (0, 1):
        assert np.argwhere(written[..., index] != broken).tolist() == [[0, 0, 1]]
    assert not written[0, 0, 1].any()
    record = json.loads((out / "predict.json").read_text())
    assert record["anatomy"] == "largest pieces, holes, LV within myocardium"
    (entry,) = record["scans"]
    first, *_, last = entry["warnings"]  # what was not found comes first, what was mended last
    assert first == "RV: not found (phases 1 to 2 of 2)"
    assert last == "anatomy: removed 1 loose piece of LV, less than 0.1 ml (phases 1 to 2 of 2)"
    with pytest.raises(CoopsegError, match="holds results of a command with anatomy = "):
        predict(small_model, scan, out, device="cpu", resume=True)


def test_what_no_heart_has_is_warned_of(
    small_model: Path, scans: Path, tmp_path: Path, broken: np.ndarray
) -> None:
    (path,) = predict(small_model, scans / "b" / "moving.nii.gz", tmp_path / "out", device="cpu")
    assert np.array_equal(read_labels(path).data[..., 0], broken)
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert record["anatomy"] is None
    assert record["scans"][0]["warnings"][0] == "RV: not found (phases 1 to 2 of 2)"
    assert record["scans"][0]["warnings"][-2:] == [
        "LV: 1 piece apart from the largest, less than 0.1 ml, slice 2 (phases 1 to 2 of 2)",
        "LV: no myocardium between blood and background (slice 2); 11 % of the outline there "
        "(phases 1 to 2 of 2)",
    ]


def test_slices_of_the_models_axis(
    save_small: Callable[[Path, Settings], str],
    small_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that cuts along X has the slices of its measures, warnings and mending there too."""
    cases = small_settings.cases.model_copy(update={"slice_axis": 0})
    save_small(tmp_path, small_settings.model_copy(update={"cases": cases}))
    labels = np.zeros((5, 20, 24), np.uint8)
    labels[1:4, 5:15, 5:15], labels[1:4, 8:12, 8:12], labels[3, 0, 0] = 2, 1, 1
    monkeypatch.setattr(module, "restore", lambda probabilities, record: labels)
    write_image(tmp_path / "x_ED.nii.gz", np.ones(labels.shape), affine=np.diag([2, 2, 2, 1.0]))
    predict(tmp_path, tmp_path / "x_ED.nii.gz", tmp_path / "out", device="cpu", page=True)
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert "LV: 1 piece apart from the largest, less than 0.1 ml, slice 4" in record["scans"][0]["warnings"]
    (patient,) = json.loads((tmp_path / "out" / "measures.json").read_text())["patients"]
    assert patient["slices"][0].startswith("ED: LV in 3 of 5 slices (2 to 4)")
    assert '"slices": 5' in (tmp_path / "out" / "x.html").read_text()


def test_scan_statistics(small_model: Path, scans: Path, tmp_path: Path) -> None:
    (path,) = predict(
        small_model, scans / "b" / "moving.nii.gz", tmp_path / "out", device="cpu", scan_statistics="2.5"
    )
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert (record["scan_statistics"], record["model_settings"]["prediction"]) == (
        2.5,
        {"scan_statistics": None, "head": "FTN+STN"},
    )
    predictor = Predictor.from_model(load_model(small_model), scan_statistics=2.5)
    expected = predictor.frames(read_image(scans / "b" / "moving.nii.gz"))["FTN+STN"]
    assert np.array_equal(read_labels(path).data, expected)


def test_heads(small_model: Path, scans: Path, tmp_path: Path) -> None:
    scan = scans / "a" / "x.nii.gz"
    expected = Predictor.from_model(load_model(small_model))(read_image(scan))
    for number, arguments, head in (
        (0, {}, "FTN+STN"),
        (1, {"head": "FTN"}, "FTN"),
        (2, {"refinements": 0}, "FTN"),
    ):
        (path,) = predict(small_model, scan, tmp_path / str(number), device="cpu", **arguments)
        assert np.array_equal(read_labels(path).data, expected[head])


def test_bf16_is_close_to_float32(small_model: Path, scans: Path, tmp_path: Path) -> None:
    scan = scans / "a" / "x.nii.gz"
    maps = [
        read_labels(predict(small_model, scan, tmp_path / p, device="cpu", head="FTN", precision=p)[0]).data
        for p in ("32", "bf16")
    ]
    assert (maps[0] == maps[1]).mean() > 0
    assert (maps[0] == maps[1]).mean() > 0.95


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["in/x.nii.gz"], ["x"]),
        (["in/x.nii", "in/y.nii.gz"], ["x", "y"]),
        (["in/a/x.nii", "in/b/x.nii"], ["a/x", "b/x"]),
        (["in/a/x.nii", "in/x.nii"], ["a/x", "x"]),
        (["in/a/../a/x.nii", "in/c/d/x.nii"], ["a/x", "c/d/x"]),
    ],
)
def test_names_of_outputs(given: list[str], expected: list[str]) -> None:
    found = output_paths([Path(path) for path in given], ["FTN"])
    assert [str(target["FTN"]) for target in found] == [f"{name}.nii.gz" for name in expected]


def test_two_scans_for_one_name_are_refused() -> None:
    with pytest.raises(CoopsegError, match=r"in/x\.nii\.gz: would be written to x\.nii\.gz, as in/x\.nii;"):
        output_paths([Path("in/x.nii"), Path("in/x.nii.gz")], ["FTN"])


def test_after_a_stop_what_is_done_stays_and_is_not_done_again(
    small_model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    predict(small_model, scans, whole, device="cpu")

    def stop(done: Predicted) -> None:
        if done.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(small_model, scans, out, device="cpu", progress=stop)
    with pytest.raises(CoopsegError, match="go on in it by --resume"):
        predict(small_model, scans, out, device="cpu")
    journal, first = out / "done.jsonl", out / "a/x.nii.gz"
    journal.write_bytes(journal.read_bytes() + b'{"key": "torn\0')  # as a power cut leaves it
    first.write_bytes(first.read_bytes()[:-1])
    seen: list[int] = []
    notes: list[str] = []
    paths = predict(
        small_model, scans, out, device="cpu", resume=True, quality=False, note=notes.append,
        progress=lambda done: seen.append(done.number),
    )  # fmt: skip
    assert seen == [1, 3]  # the first is no longer whole, the third had not been done
    assert notes == ["1 scan done before, not done again"]
    for path in paths:
        assert path.read_bytes() == (whole / path.relative_to(out)).read_bytes()
    entries = json.loads((out / "predict.json").read_text())["scans"]
    assert [entry["outputs"] for entry in entries] == [
        entry["outputs"] for entry in json.loads((whole / "predict.json").read_text())["scans"]
    ]


def test_a_stop_before_anything_is_done_leaves_nothing(
    small_model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prepare", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(small_model, scans, tmp_path / "new/out", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_bad_scan_does_not_keep_the_others(small_model: Path, scans: Path, tmp_path: Path) -> None:
    scan = read_image(scans / "b" / "x.nii.gz")
    scan.data[0, 0, 0] = np.nan
    write_image(scans / "b" / "x.nii.gz", scan.data, affine=scan.affine)
    (scans / "b" / "lost.nii.gz").symlink_to("nowhere")
    with pytest.raises(PartlyDone, match="2 of 4 scans failed") as caught:
        predict(small_model, scans, tmp_path / "out", device="cpu")
    assert [str(error).partition(": ")[2][:25] for error in caught.value.failed] == [
        "a link to nothing; fetch ", "1 of 1800 voxels are NaN "
    ]  # fmt: skip
    assert [path.name for path in caught.value.done] == ["x.nii.gz", "moving.nii.gz"]
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert record["failed"] == [str(error) for error in caught.value.failed]
    with pytest.raises(CoopsegError, match=r"b/x\.nii\.gz: 1 of 1800 voxels are NaN"):
        predict(small_model, scans / "b" / "x.nii.gz", tmp_path / "new", device="cpu")
    assert not (tmp_path / "new").exists()


def test_wrong_words(
    small_model: Path, scans: Path, tmp_path: Path, save_small: Callable[[Path, Settings], str]
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    small = {"network.width": 2, "cases.size": (32, 32)}
    save_small(plain, resolve_settings(preset="lsm2022", overrides=small))
    for model, arguments, message in (
        (small_model, {"head": "STN"}, "head 'STN' is not known; use FTN, FTN.STN or both"),
        (small_model, {"head": "both", "refinements": 0}, "'both' is not there since refinements are 0"),
        (plain, {"head": "FTN+STN"}, "is not there since the model was trained without STN; use FTN"),
        (small_model, {"refinements": -1}, "refinements must be 0 or more"),
        (small_model, {"precision": "16"}, "precision '16'"),
    ):
        with pytest.raises(CoopsegError, match=message):
            predict(model, scans, tmp_path / "out", **{"device": "cpu", **arguments})  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()


@pytest.fixture
def calibrated(
    tmp_path: Path,
    small_settings: Settings,
    save_small: Callable[[Path, Settings], str],
    made_calibration: Calibration,
) -> Path:
    """That model with a calibration that flags everything."""
    folder = tmp_path / "calibrated"
    save_small(folder, small_settings)
    store_calibration(folder / LAST, made_calibration.model_copy(update={"limit": 1.0, "reference": None}))
    return folder


def test_what_dice_is_expected_of_each_phase(calibrated: Path, scans: Path, tmp_path: Path) -> None:
    out, seen, said = tmp_path / "out", list[Any](), list[str]()
    predict(calibrated, scans / "b", out, device="cpu", page=True, progress=seen.append, note=said.append)
    record = json.loads((out / "predict.json").read_text())
    model = load_model(calibrated)
    assert model.calibration
    judged = JudgedPredictor(Predictor.from_model(model), model.calibration, model.names)
    for entry in record["scans"]:
        scan = read_image(Path(entry["scan"]))
        frames = [scan] if scan.data.ndim == 3 else [scan.frame(index) for index in range(scan.data.shape[3])]
        expected = [asdict(judged(frame, False)[1]) for frame in frames]
        assert entry["expected"] == expected
        assert any(line.startswith("expected Dice") for line in entry["warnings"])
    assert record["calibration"]["patients"] == 12
    assert said == ["2 of 2 scans flagged: expected Dice below 1.00"]
    assert [len(one.found.expected) for one in seen] == [2, 1]
    page, worklist = (out / "moving.html").read_text(), (out / "index.html").read_text()
    lowest = min(seen[0].found.expected, key=lambda each: each.mean)
    assert f"{lowest.mean:.2f}" in worklist
    assert lowest.describe() in page
    assert "of 2, the lowest" in page


def test_repeats_why_the_flag_tells_little(
    calibrated: Path, made_calibration: Calibration, scans: Path, tmp_path: Path
) -> None:
    skill = made_calibration.skill.model_copy(update={"bad": 0, "bad_patients": 0})
    poor = made_calibration.model_copy(update={"skill": skill})
    store_calibration(calibrated / LAST, poor)
    said = list[str]()
    predict(calibrated, scans / "b", tmp_path / "out", device="cpu", note=said.append)
    assert said[-1].endswith(f" flagged: expected Dice below 0.70; {poor.caution}")
    assert poor.caution


def test_label_maps_are_the_same_with_and_without_expected_dice(
    calibrated: Path, small_model: Path, scans: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    first = predict(calibrated, scans / "b", tmp_path / "a", device="cpu")
    for number, (model, quality) in enumerate(((calibrated, False), (small_model, True))):
        out = tmp_path / str(number)
        found = predict(model, scans / "b", out, device="cpu", quality=quality, note=said.append)
        for one, other in zip(first, found, strict=True):
            assert np.array_equal(read_labels(one).data, read_labels(other).data)
        record = json.loads((out / "predict.json").read_text())
        assert record["calibration"] is None
        assert "expected" not in record["scans"][0]
    assert said == ["no expected Dice: the model is not calibrated; `coopseg calibrate` does it once"]


def test_expected_dice_is_resumed_and_not_mixed(calibrated: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(calibrated, scans / "b", out, device="cpu")
    before = json.loads((out / "predict.json").read_text())["scans"]
    predict(calibrated, scans / "b", out, device="cpu", resume=True)
    assert json.loads((out / "predict.json").read_text())["scans"] == before
    with pytest.raises(CoopsegError, match="holds results of a command with calibration = "):
        predict(calibrated, scans / "b", out, device="cpu", resume=True, quality=False)
