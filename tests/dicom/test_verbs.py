"""`import`, `validate` and `predict` on DICOM, from the command line."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from made_dicom import STEP, an_object, as_file, enhanced, in_series, one_series, save, series_per_slice
from pydicom.uid import SegmentationStorage

import coopseg as package
from coopseg.config.resolve import resolve_settings
from coopseg.inference.model import LAST, save_model
from coopseg.networks.cooperative import Networks
from coopseg.scans.nifti import read_image
from coopseg.scans.types import Scan


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    folder = package.write_phantom(tmp_path_factory.mktemp("phantom"), patients=1, size=48)["mnms"]
    return read_image(next(folder.rglob("*_sa.nii.gz")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights."""
    folder = tmp_path_factory.mktemp("run")
    settings = resolve_settings(overrides={"network.width": 2, "cases.size": (32, 32), "cases.spacing": 4.0})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = Networks(classes=4, **dict(settings.network))
        networks.train()(torch.rand(8, 1, 32, 32))
    save_model(
        folder / LAST, networks.state_dict(), settings=settings, names=("background", "RV", "MYO", "LV")
    )
    return folder


@pytest.fixture
def study(scan: Scan, tmp_path: Path) -> Path:
    """A cine stack, a series that was derived from it, and a segmentation."""
    folder = save(series_per_slice(scan, patient="Rossi 7"), tmp_path / "study")
    derived = [in_series(data, 50, "MIP") for data in one_series(scan, patient="Rossi 7")]
    for data in derived:
        data.ImageType, data.SOPInstanceUID = ["DERIVED", "SECONDARY"], data.SOPInstanceUID + ".1"
    save(derived, folder / "more")
    other = in_series(an_object(SegmentationStorage, patient="Rossi 7"), 51, "AI")
    other.Modality = "SEG"
    (folder / "seg").write_bytes(as_file(other))
    return folder


def test_import(coopseg: Callable[..., Any], study: Path, scan: Scan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = coopseg("import", study, "--out", out)
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert done.stdout == f"1 scan in {out}; {out / 'import.json'} says what they were made from\n"
    assert "2 passed over: derived from other images, by its ImageType (1), modality SEG" in done.stderr
    record = json.loads((out / "import.json").read_text())
    assert record["notice"] == "Research software, not a medical device"
    (entry,) = record["scans"]
    assert (entry["file"], tuple(entry["shape"])) == ("Rossi-7.nii.gz", scan.data.shape)
    assert entry["milliseconds"] == pytest.approx(40)
    assert entry["sorted_by"] == "TriggerTime"
    assert entry["origin"]["patient"] == "Rossi 7"
    assert np.shape(entry["origin"]["sources"]) == scan.data.shape[2:]
    assert {Path(s["file"]).is_file() for times in entry["origin"]["sources"] for s in times} == {True}
    assert len(record["passed_over"]) == 2
    again = coopseg("import", study, "--out", out)
    assert again.exit_code == 2
    assert "exists and is not an empty folder" in again.stderr


def test_validate_says_what_import_would_find(
    coopseg: Callable[..., Any], study: Path, scan: Scan, tmp_path: Path
) -> None:
    done = coopseg("validate", study)
    assert done.exit_code == 0, (done.stderr, done.exception)
    first, *others, last = done.stdout.splitlines()
    shape = " x ".join(map(str, scan.data.shape))
    assert first.startswith(f"scan         Rossi-7: {shape} voxels of ")
    assert " mm, 40.0 ms apart, from series 5, 6, 7, 8 and " in first
    assert sorted(line.split("  ")[0] for line in others) == ["passed over"] * 2
    assert last == "1 scan, 0 refused, 2 passed over"
    sorted((study / "d0").iterdir())[0].unlink()
    done = coopseg("validate", study, "--json")
    assert done.exit_code == 1
    content = json.loads(done.stdout)
    assert (content["scans"], len(content["failed"])) == ([], 1)


@pytest.mark.parametrize("zipped", [False, True])
def test_predict_takes_dicom_as_what_import_makes_of_it(
    coopseg: Callable[..., Any], study: Path, model: Path, tmp_path: Path, zipped: bool
) -> None:
    source = study
    if zipped:
        import shutil

        source = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", study))
    assert coopseg("import", study, "--out", tmp_path / "nifti").exit_code == 0
    words = ("predict", "--model", model, "--device", "cpu")
    assert coopseg(*words, tmp_path / "nifti", "--out", tmp_path / "wanted").exit_code == 0
    done = coopseg(*words, source, "--out", tmp_path / "maps", "--page")
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert f"{source}: DICOM, 1 scan" in done.stderr
    wanted, found = (
        nibabel.Nifti1Image.from_filename(tmp_path / name / "Rossi-7.nii.gz") for name in ("wanted", "maps")
    )
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(wanted.dataobj))
    assert np.array_equal(found.affine, wanted.affine)
    assert found.header.get_zooms() == wanted.header.get_zooms()
    record = json.loads((tmp_path / "maps" / "predict.json").read_text())
    (entry,) = record["scans"]
    assert entry["scan"] == str(source)
    assert entry["dicom"]["patient"] == "Rossi 7"
    assert len(record["passed_over"]) == 2
    resumed = coopseg(*words, source, "--out", tmp_path / "maps", "--resume")
    assert resumed.exit_code == 0
    assert "1 scan done before" in resumed.stderr


def test_the_body_of_the_headers_counts(
    coopseg: Callable[..., Any], study: Path, model: Path, tmp_path: Path
) -> None:
    done = coopseg("predict", "--model", model, study, "--device=cpu", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert f"1 of 1: Rossi-7 (DICOM in {study}) (" in done.stderr
    assert "Rossi-7.nii.gz" not in done.stderr
    (line,) = csv.DictReader((tmp_path / "out" / "measures.csv").read_text().splitlines())
    assert (float(line["height_cm"]), float(line["weight_kg"])) == (170, 65)
    assert float(line["bsa_m2"]) == pytest.approx((170 * 65 / 3600) ** 0.5, abs=0.005)


def walk(item: Any) -> Iterator[Any]:
    """All items of a report, but itself."""
    for below in item.get("ContentSequence", ()):
        yield below
        yield from walk(below)


def test_the_report_says_what_the_table_says(
    coopseg: Callable[..., Any], study: Path, model: Path, tmp_path: Path
) -> None:
    import pydicom

    out = tmp_path / "out"
    done = coopseg("predict", "--model", model, study, "--device=cpu", "--dicom", "--out", out)
    assert done.exit_code == 0, done.stderr
    (line,) = csv.DictReader((out / "measures.csv").read_text().splitlines())
    record = json.loads((out / "predict.json").read_text())
    (entry,) = record["scans"]
    report = pydicom.dcmread(out / "dicom" / "Rossi-7_sr.dcm")
    *_, said = report.ContentSequence
    phases, comments = list[str](), list[str]()
    for item in said.ContentSequence:
        comment = item.ConceptNameCodeSequence[0].CodeMeaning == "Comment"
        (comments if comment else phases).append(item.TextValue)
    (volume,) = (
        item.MeasuredValueSequence[0].NumericValue
        for item in walk(report)
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Left Ventricular ED Volume"
    )
    assert float(volume) == float(line["lv_edv_ml"])
    assert line["phases_by"] == "LV volume"
    assert phases[2] == "the largest and the smallest LV volume"
    for phase, said_of in zip(phases[:2], (line["ed"], line["es"]), strict=True):
        found = re.fullmatch(r"phase (\d+) of (\d+), (\d+) ms after the R wave", phase)
        assert found
        number, _, after = map(int, found.groups())
        assert said_of == f"Rossi-7, phase {number}"
        assert after == (number - 1) * STEP
    assert comments.pop(0) == "Research software, not a medical device"
    slices = entry["dicom"]["slices"]
    assert comments.pop(0).endswith(f"slice 1 is {slices[0]}, slice {len(slices)} is {slices[-1]}")
    ed, es = (int(phase.split()[1]) for phase in phases[:2])
    made = [pydicom.dcmread(out / "dicom" / f"Rossi-7_seg_{n:02d}.dcm").SOPInstanceUID for n in (ed, es)]
    assert comments.pop(0) == f"measured in SEG {made[0]} of ED and {made[1]} of ES"
    model_said = (
        f"model with SHA-256 {record['model']['sha256']}, head {record['head']}, label maps not mended"
    )
    assert comments.pop(0) == f"by coopseg {package.__version__}: {model_said}"
    warnings = entry["warnings"]
    assert warnings
    assert comments[-len(warnings) :] == warnings
    assert line["notes"].startswith("; ".join(comments[: -len(warnings)]))


def test_dicom_beside_nifti_is_said(
    coopseg: Callable[..., Any], study: Path, model: Path, scan: Scan, tmp_path: Path
) -> None:
    assert scan.path
    shutil.copy(scan.path, study / "scan.nii.gz")
    done = coopseg("predict", "--model", model, study, "--device=cpu", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "DICOM beside NIfTI, to be given by itself (1)" in done.stderr
    assert [file.name for file in (tmp_path / "out").rglob("*.nii.gz")] == ["scan.nii.gz"]


def test_predict_does_the_rest(
    coopseg: Callable[..., Any], study: Path, model: Path, scan: Scan, tmp_path: Path
) -> None:
    """A refused scan of DICOM, one that is read, and NIfTI, at once."""
    (cut,) = enhanced(scan, patient="cut")
    (study / "cut").write_bytes(as_file(cut)[:-9])
    assert coopseg("import", study, "--out", tmp_path / "nifti").exit_code == 1
    words = ("predict", "--model", model, "--device", "cpu", study, tmp_path / "nifti")
    done = coopseg(*words, "--out", tmp_path / "maps", "--page")
    assert done.exit_code == 1
    assert "<h1>2 patients, 1 scan failed</h1>" in (tmp_path / "maps" / "index.html").read_text()
    assert "bytes of pixel data" in done.stderr
    assert "(patient 'cut', study of 20240131)" in done.stderr
    assert "1 of 3 scans failed" in done.stderr
    maps = sorted(str(path.relative_to(tmp_path / "maps")) for path in (tmp_path / "maps").rglob("*.nii.gz"))
    assert maps == ["nifti/Rossi-7.nii.gz", "study/Rossi-7.nii.gz"]
    (tmp_path / "only").mkdir()
    (study / "cut").rename(tmp_path / "only" / "cut")
    done = coopseg("predict", "--model", model, tmp_path / "only", "--out", tmp_path / "none")
    assert done.exit_code == 2
    assert not (tmp_path / "none").exists()


def test_without_the_extra(
    coopseg: Callable[..., Any], study: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pydicom" else find(name, *more)
    )
    for words in (
        ("import", study, "--out", tmp_path / "out"),
        ("validate", study),
        ("predict", "--model", model, study, "--out", tmp_path / "out"),
    ):
        done = coopseg(*words)
        assert done.exit_code == 2
        assert done.stderr == (
            f'error: {study}: pydicom is not installed, which reads DICOM; pip install "coopseg[dicom]"\n'
        )


@pytest.mark.parametrize("words", [("none",), ("empty",), ("x.txt",)])
def test_nothing_to_import(
    coopseg: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("no DICOM")
    done = coopseg("import", *words, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {words[0]}: no ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
