"""Images of several channels, from their files to scores and copies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

import coopseg as package
from coopseg.cases.prepare import prepare
from coopseg.config.methods import METHODS
from coopseg.config.settings import AugmentationSettings, CaseSettings
from coopseg.errors import CoopsegError, PartlyDone
from coopseg.evaluation.corruptions import (
    ALL_KINDS,
    apply_corruption,
    corruption_generator,
    sample_corruption,
)
from coopseg.inference.export import export
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_scan
from coopseg.scans.types import Scan
from coopseg.training.augmentation import apply_augmentation, sample_augmentation

NAMES = {"0": "T2", "1": "ADC"}
LABELS = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
TINY = {
    "network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1,
    "training.batch_size": 4, "training.validations": 1,
}  # fmt: skip


def load(file: Path) -> nibabel.nifti1.Nifti1Image:
    return nibabel.nifti1.Nifti1Image.from_filename(file)


@pytest.fixture(scope="module")
def two(phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom in nnU-Net's layout; its second channel has another range and contrast."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    for ref in open_dataset(phantom["acdc"]).items:
        first, stem = load(ref.image), folder / "imagesTr" / ref.id
        values = np.asarray(first.dataobj, np.float32)
        for number, data in enumerate((values, 5000 - 2 * np.sqrt(values.clip(0)))):
            nibabel.save(nibabel.Nifti1Image(data, first.affine), f"{stem}_{number:04d}.nii.gz")
        assert ref.label
        shutil.copy(ref.label, folder / "labelsTr" / f"{ref.id}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps({"channel_names": NAMES, "labels": LABELS}))
    return folder


@pytest.fixture(scope="module")
def stacked(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the Decathlon's layout."""
    folder = tmp_path_factory.mktemp("stacked")
    shutil.copytree(two / "labelsTr", folder / "labelsTr")
    (folder / "imagesTr").mkdir()
    entries = []
    for ref in open_dataset(two).items:
        channels = [load(file) for file in ref.images]
        joined = np.stack([np.asarray(channel.dataobj) for channel in channels], axis=-1)
        name = f"{ref.id}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(joined, channels[0].affine), folder / "imagesTr" / name)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    text = {"modality": NAMES, "labels": LABELS, "training": entries, "test": []}
    (folder / "dataset.json").write_text(json.dumps(text))
    return folder


@pytest.fixture(scope="module")
def run(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of two channels."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return package.train(two, out, preset="quick", settings=TINY, device="cpu")


def test_both_layouts_give_the_same_scans(two: Path, stacked: Path) -> None:
    for first, second in zip(open_dataset(two).items, open_dataset(stacked).items, strict=True):
        one, other = load_scan(first), load_scan(second)
        assert one.data.shape == other.data.shape == one.more[0].shape
        np.testing.assert_array_equal([one.data, *one.more], [other.data, *other.more])


def test_a_channel_is_prepared_as_it_would_be_alone(two: Path) -> None:
    scan, settings = load_scan(open_dataset(two).items[0]), CaseSettings(size=(48, 32), spacing=3.0)
    case = prepare(scan, settings)
    assert case.image.shape[1] == 2
    for number, channel in enumerate(scan.channels):
        alone = prepare(channel, settings)
        np.testing.assert_array_equal(case.image[:, number], alone.image[:, 0])
        assert case.record.clip
        assert alone.record.clip
        assert case.record.clip[number] == alone.record.clip[0]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_channels_get_the_same_artefact(kind: str) -> None:
    """Each as it would be alone; noise differs, since it is drawn for every voxel."""
    volume = np.random.default_rng(0).random((2, 4, 24, 20), np.float32)
    corruption = sample_corruption(kind, corruption_generator(0, case="a", kind=kind, copy=1))
    together = apply_corruption(volume, corruption, spacing=(8, 1, 1))
    assert together.shape == volume.shape
    for channel, found in zip(volume, together, strict=True):
        alone = apply_corruption(channel, corruption, spacing=(8, 1, 1))
        if kind != "RandNoise":
            np.testing.assert_allclose(found, alone, atol=1e-6)
    if kind == "RandNoise":
        first, second = (together - volume).reshape(2, -1)
        assert abs(float(np.corrcoef(first, second).ravel()[1])) < 0.3


def test_augmentation_moves_channels_alike() -> None:
    images = torch.rand(3, 1, 40, 40).repeat(1, 2, 1, 1)
    images[:, 1] = images[:, 1] / 2 + 0.25
    settings = AugmentationSettings(intensity=0)
    drawn = sample_augmentation(3, (32, 32), settings, torch.Generator().manual_seed(0))
    inside = torch.tensor([[0.0, 39], [0, 39]]).expand(3, 2, 2)
    labels = torch.zeros(3, 40, 40, dtype=torch.uint8)
    moved, _ = apply_augmentation(images, labels, inside, drawn, size=(32, 32))
    torch.testing.assert_close(moved[:, 0], moved[:, 1], atol=1e-5, rtol=0)
    assert (moved.amax((2, 3)) == 1).all()


def test_a_scan_is_predicted_from_files_or_from_a_fourth_axis(
    run: Path, two: Path, stacked: Path, tmp_path: Path
) -> None:
    record = json.loads((run / "run.json").read_text())["settings"]
    assert record["network"]["channels"] == 2
    assert record["cases"]["channels"] == ["T2", "ADC"]
    found: dict[Path, dict[str, np.ndarray]] = {}
    heard: list[str] = []
    for folder in (two, stacked):
        package.predict(
            run, folder / "imagesTr", tmp_path / folder.name, device="cpu",
            progress=lambda done: heard.extend(done.warnings),
        )  # fmt: skip
        names = sorted((tmp_path / folder.name).glob("*.nii.gz"))
        found[folder] = {file.name: np.asarray(load(file).dataobj) for file in names}
    assert set(found[two]) == {f"{ref.id}.nii.gz" for ref in open_dataset(two).items}
    for name, labels in found[two].items():
        np.testing.assert_array_equal(labels, found[stacked][name])
    assert "its fourth axis is taken for the 2 channels (T2, ADC)" in heard
    entries = json.loads((tmp_path / two.name / "predict.json").read_text())["scans"]
    assert len(entries) == len(found[two])


def test_a_lost_channel_is_refused(run: Path, two: Path, tmp_path: Path) -> None:
    first = two / "imagesTr" / "patientP001_ED_0000.nii.gz"
    with pytest.raises(CoopsegError, match="patientP001_ED has no file for channel 0001"):
        package.predict(run, first, tmp_path / "a", device="cpu")
    whole = sorted((two / "imagesTr").glob("patientP002_ED_*"))
    with pytest.raises(PartlyDone) as caught:
        package.predict(run, [first, *whole], tmp_path / "rest", device="cpu")
    assert "patientP001_ED has no file for channel 0001" in str(caught.value.failed[0])
    assert [file.name for file in (tmp_path / "rest").rglob("*.nii.gz")] == ["patientP002_ED.nii.gz"]
    shutil.copy(first, tmp_path / "scan.nii.gz")
    with pytest.raises(CoopsegError, match=r"scan.nii.gz: a file of shape .* 2 channels should lie along"):
        package.predict(run, tmp_path / "scan.nii.gz", tmp_path / "a", device="cpu")
    predictor = package.Predictor.from_model(package.load_model(run))
    with pytest.raises(CoopsegError, match=r"has 1 channel, but .* trained on images of 2 \(T2, ADC\)"):
        predictor(package.read_image(first))


@pytest.mark.parametrize("grid", ["scan", "published"])
def test_copies_are_scored_like_scans(run: Path, two: Path, stacked: Path, grid: Any, tmp_path: Path) -> None:
    """At severity 0 in the scan's grid they are the scans, whichever layout these came in."""
    originals = replace(open_dataset(two), items=open_dataset(two).items[:2])
    copies = []
    for folder in (two, stacked):
        data = replace(open_dataset(folder), items=open_dataset(folder).items[:2])
        (made,) = package.corrupt(
            data, tmp_path / folder.name, kinds="RandMotion", copies=1, severity=0, grid=grid, workers=1
        )
        copies.append(replace(open_dataset(made), name=folder.name))
        assert copies[-1].channels == ("T2", "ADC")
        for ref, original in zip(copies[-1].items, originals.items, strict=True):
            assert [file.name[-12:] for file in ref.images] == ["_0000.nii.gz", "_0001.nii.gz"]
            if grid == "scan":
                one, other = load_scan(ref), load_scan(original)
                np.testing.assert_array_equal([one.data, *one.more], [other.data, *other.more])
    found = package.evaluate(
        run, [replace(originals, name="scans"), *copies], tmp_path / "scores", device="cpu", pictures=False,
        workers=1,
    )  # fmt: skip
    scores: dict[str, list[float]] = {}
    for row in found.rows:
        scores.setdefault(row["dataset"], []).append(row["dice"])
    first, second, third = scores.values()
    np.testing.assert_array_equal(second, third)
    if grid == "scan":
        np.testing.assert_array_equal(first, second)


def test_other_names_of_channels_are_a_warning(run: Path, two: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned"
    shutil.copytree(two, turned)
    text = {"channel_names": {"0": "ADC", "1": "T2"}, "labels": LABELS}
    (turned / "dataset.json").write_text(json.dumps(text))
    found = package.evaluate(run, turned, tmp_path / "out", device="cpu", pictures=False, workers=1)
    assert "its channels are ADC, T2, those of the training T2, ADC" in "\n".join(found.warnings)


def test_validate_looks_at_every_channel(two: Path, tmp_path: Path) -> None:
    assert not [f for f in package.validate(two).findings if f.severity == "error"]
    bad = tmp_path / "bad"
    shutil.copytree(two, bad)
    images = sorted((bad / "imagesTr").glob("*_0001.nii.gz"))
    shutil.copy(str(images[0]).replace("_0001", "_0000"), images[0])
    scan = load(images[1])
    moved = scan.affine + 90 * np.eye(4, k=3)  # to the patient's right
    nibabel.save(nibabel.Nifti1Image(scan.dataobj, moved), images[1])
    nibabel.save(nibabel.Nifti1Image(np.asarray(scan.dataobj)[1:], scan.affine), images[2])
    images[3].write_bytes(images[3].read_bytes()[:400])
    found = {Path(f.file).name: f for f in package.validate(bad).findings if f.file}
    assert found[images[0].name].found == "channel 1 holds the same voxels as channel 0"
    assert "the channel lies 90.0 mm away from the image" in found[images[1].name].found
    assert found[images[2].name].rule == "grid"
    assert found[images[3].name].rule == "truncated"


def test_a_setting_that_the_scans_contradict_is_refused(two: Path, tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match=r"its images have 2 channels, but network\.channels is 3"):
        package.train(two, tmp_path / "run", preset="quick", settings=TINY | {"network.channels": 3})


def test_a_predictor_gets_all_channels(two: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def look(image: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        seen.append(image.shape)
        return np.zeros(image.shape[1:], np.uint8)

    package.evaluate(None, two, tmp_path / "out", predictor=look, pictures=False, workers=1)
    assert {shape[0] for shape in seen} == {2}


def test_onnx_takes_all_channels(run: Path, two: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = export(run, tmp_path / "model.onnx")
    scan = load_scan(open_dataset(two).items[0])
    wanted = package.Predictor.from_model(package.load_model(run))(scan)
    for head, labels in package.Predictor.from_model(package.load_model(file))(scan).items():
        assert (labels == wanted[head]).mean() > 0.999


def test_a_scan_of_several_frames_and_channels() -> None:
    frames = np.random.default_rng(0).random((2, 5, 4, 3, 6), np.float32)
    scan = Scan(frames[0], np.eye(4), more=(frames[1],)).frame(4)
    np.testing.assert_array_equal([scan.data, *scan.more], frames[..., 4])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_several_channels(
    method: str, two: Path, tmp_path: Path, coopseg: Callable[..., Any]
) -> None:
    if "monai" in method:
        pytest.importorskip("monai")
    options = [word for key, value in TINY.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = coopseg(
        "train", "--data", two, "--method", method, "--preset", "quick", *options, "--device", "cpu",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
