"""Corrupted data sets: files, manifest, replay, and that nothing half-written or foreign is touched."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from coopseg.benchmark.data import is_whole
from coopseg.cases.prepare import prepare
from coopseg.cases.steps import minmax_slices
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError, PartlyDone
from coopseg.evaluation.corrupt import case_as_scan, corrupt_dataset, intensities_of_copies
from coopseg.evaluation.corruptions import (
    ALL_KINDS,
    CHOICE_KINDS,
    KINDS,
    Corruption,
    apply_corruption,
    corruption_generator,
    sample_corruption,
)
from coopseg.scans.geometry import find_orientation
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.nifti import write_image, write_labels
from coopseg.scans.types import Dataset, Labels, Scan, ScanRef

SETTINGS = CaseSettings(size=(32, 32))
LABELS = Labels(("background", "RV", "MYO", "LV"), (0, 10, 20, 30))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two patients of two phases, 24 × 40 × 3 voxels, label values 0, 10, 20, 30."""
    folder = tmp_path_factory.mktemp("source")
    generator = np.random.default_rng(0)
    affine = np.diag([-1.6, -1.6, 10, 1.0])
    items = []
    for patient in ("p1", "p2"):
        for phase in ("ED", "ES"):
            image, label = folder / f"{patient}_{phase}.nii.gz", folder / f"{patient}_{phase}_gt.nii.gz"
            data = np.zeros((24, 40, 3), np.int16)
            for value in (10, 20, 30):
                data[value // 4 : value // 4 + 5, 12:25] = value
            write_image(image, data * 20 + generator.uniform(0, 99, data.shape), affine=affine)
            write_labels(label, data, like=Scan(data, affine))
            items.append(ScanRef(patient, image, label, phase, site="Siemens/1"))
    return Dataset("toy", folder, "folder", LABELS, tuple(items))


@pytest.fixture(scope="module")
def corrupted(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corrupted") / "sets"
    seen: list[tuple[int, int]] = []
    folders = corrupt_dataset(
        dataset,
        out,
        copies=2,
        settings=SETTINGS,
        grid="published",
        workers=1,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert folders == [out / kind for kind in KINDS]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    return out


def digests(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_a_data_set(kind: str, corrupted: Path, dataset: Dataset) -> None:
    found = open_dataset(corrupted / kind)
    assert (found.name, found.layout, found.patients) == (kind, "folder", dataset.patients)
    assert [(i.patient, i.phase, i.copy, i.site, i.normalised) for i in found.items] == [
        (patient, phase, copy, "Siemens/1", True)
        for patient in ("p1", "p2")
        for phase in ("ED", "ES")
        for copy in (1, 2)
    ]
    for ref, source in zip(found.items[::2], dataset.items, strict=True):
        scan, label = load_scan(ref), load_label(ref)
        truth = load_label(source)
        assert label is not None
        assert truth is not None
        names = ("background", "LV", "MYO", "RV")
        indices = labels_to_indices(truth.data, LABELS, names=names, path=None)
        expected = prepare(load_scan(source), SETTINGS, label=indices)
        stored = labels_to_indices(label.data, found.labels, names=names, path=ref.label)
        case = prepare(scan, SETTINGS, label=stored, normalised=True)
        np.testing.assert_array_equal(case.label, expected.label)
        assert label.data.dtype == np.uint8
        assert (scan.data.min(), scan.data.max()) == (0, 1)
        np.testing.assert_allclose(case.record.spacing, (10, 1.36719, 1.36719), atol=1e-5)


def test_manifest_replays_every_image(corrupted: Path, dataset: Dataset) -> None:
    manifest = json.loads((corrupted / "manifest.json").read_text())
    assert len(manifest["volumes"]) == 4 * 2 * 4
    assert manifest["settings"] == SETTINGS.model_dump(mode="json")
    assert manifest["versions"]["torchio"].startswith("1.")
    sources = {(item.patient, item.phase): item for item in dataset.items}
    for entry in manifest["volumes"]:
        path = corrupted / entry["kind"] / entry["image"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        case = prepare(load_scan(sources[entry["patient"], entry["phase"]]), SETTINGS)
        corruption = Corruption(entry["kind"], entry["parameters"])
        volume = apply_corruption(case.image[:, 0], corruption, spacing=case.record.spacing)
        stored = load_scan(ScanRef("", path))
        read = prepare(stored, SETTINGS.model_copy(update={"slice_minmax": False}), normalised=True)
        np.testing.assert_allclose(read.image[:, 0], volume, atol=1e-6)
        np.testing.assert_allclose(
            prepare(stored, SETTINGS, normalised=True).image[:, 0], minmax_slices(volume), atol=1e-5
        )


def test_files_depend_on_names_not_on_order_or_workers(
    corrupted: Path, dataset: Dataset, tmp_path: Path
) -> None:
    turned = replace(dataset, items=dataset.items[:0:-1])
    corrupt_dataset(turned, tmp_path / "b", copies=1, settings=SETTINGS, grid="published", workers=2)
    before, after = digests(corrupted), digests(tmp_path / "b")
    images = [name for name in after if name.endswith(".nii.gz")]
    assert len(images) == 3 * 4 * 2
    assert all(before[name] == after[name] for name in images)


def test_seed_and_copy_change_the_images(corrupted: Path, dataset: Dataset, tmp_path: Path) -> None:
    one = replace(dataset, items=dataset.items[:1])
    corrupt_dataset(one, tmp_path / "b", copies=1, seed=1, settings=SETTINGS, grid="published", workers=1)
    before, after = digests(corrupted), digests(tmp_path / "b")
    for kind in KINDS:
        first, second = (f"{kind}/images/p1_ED_copy{copy}.nii.gz" for copy in (1, 2))
        assert len({before[first], before[second], after[first]}) == 3


def test_kinds_to_choose_by(dataset: Dataset, tmp_path: Path) -> None:
    one = replace(dataset, items=dataset.items[:1])
    arguments: dict[str, Any] = {"copies": 1, "settings": SETTINGS, "grid": "published", "workers": 1}
    folders = corrupt_dataset(one, tmp_path / "all", kinds="choice", **arguments)
    assert folders == [tmp_path / "all" / kind for kind in CHOICE_KINDS]
    corrupt_dataset(one, tmp_path / "two", kinds="RandBands,RandNoise", **arguments)
    all_five, two = digests(tmp_path / "all"), digests(tmp_path / "two")
    images = [f"{kind}/images/p1_ED_copy1.nii.gz" for kind in ("RandBands", "RandNoise")]
    assert [all_five[image] for image in images] == [two[image] for image in images]


def test_existing_folders(corrupted: Path, dataset: Dataset, tmp_path: Path) -> None:
    one = replace(dataset, items=dataset.items[:1])
    foreign = tmp_path / "mine"
    foreign.mkdir()
    arguments: dict[str, Any] = {
        "copies": 1,
        "settings": SETTINGS,
        "grid": "published",
        "workers": 1,
        "kinds": ("RandBias",),
    }
    corrupt_dataset(one, foreign, **arguments)  # an empty folder is no obstacle
    with pytest.raises(
        CoopsegError, match="not empty; choose another folder, or replace it with --overwrite"
    ):
        corrupt_dataset(one, foreign, **arguments)
    corrupt_dataset(one, foreign, **arguments, overwrite=True, seed=3)
    assert json.loads((foreign / "manifest.json").read_text())["seed"] == 3
    (foreign / "manifest.json").unlink()
    with pytest.raises(CoopsegError, match="not an earlier output"):
        corrupt_dataset(one, foreign, **arguments, overwrite=True)
    assert (foreign / "RandBias").is_dir()


def test_a_damaged_manifest_is_used_or_named(
    corrupted: Path, dataset: Dataset, refuses_damage: Callable[[Path, Callable[[], object]], int]
) -> None:
    """Both by those who score the copies, and by a benchmark that asks whether they are all there."""
    copies, manifest = open_dataset(corrupted / "RandBias"), corrupted / "manifest.json"
    assert refuses_damage(manifest, lambda: intensities_of_copies(copies)) > 100
    assert refuses_damage(manifest, lambda: is_whole(corrupted, dataset)) > 100


def test_a_manifest_of_others_is_no_matter(dataset: Dataset, tmp_path: Path) -> None:
    """A folder of scans may lie beside any file."""
    (tmp_path / "manifest.json").write_text('{"icons": []}')
    assert intensities_of_copies(replace(dataset, root=tmp_path / "scans")) is None


def test_what_is_whole_has_every_session(corrupted: Path, dataset: Dataset) -> None:
    assert is_whole(corrupted, dataset)
    visits = tuple(replace(ref, session="ses-2") for ref in dataset.items)
    assert not is_whole(corrupted, replace(dataset, items=(*dataset.items, *visits)))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_volume_does_not_keep_the_others(
    corrupted: Path, dataset: Dataset, tmp_path: Path, workers: int
) -> None:
    broken, out = tmp_path / "broken.nii.gz", tmp_path / "out"
    arguments: dict[str, Any] = {"copies": 2, "settings": SETTINGS, "grid": "published", "workers": workers}
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(dataset.items[0].image.read_bytes()[:-20])
    items = (*dataset.items[:2], replace(dataset.items[2], image=broken), dataset.items[3])
    with pytest.raises(CoopsegError, match=r"broken\.nii\.gz"):
        corrupt_dataset(replace(dataset, items=items[2:3]), out, **arguments)
    assert sorted(tmp_path.iterdir()) == [broken]
    with pytest.raises(PartlyDone, match="1 of 4 scans failed") as caught:
        corrupt_dataset(replace(dataset, items=items), out, **arguments)
    assert [str(broken) in str(error) for error in caught.value.failed] == [True]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["failed"] == [str(error) for error in caught.value.failed]
    assert [len(open_dataset(folder).items) for folder in caught.value.done] == [6] * len(KINDS)
    for other, key in (
        ({"seed": 1}, "seed"),
        ({"severity": 2.0}, "severity"),
        ({"kinds": "choice"}, "kinds"),
    ):
        with pytest.raises(CoopsegError, match=f"holds results of a command with {key} = "):
            corrupt_dataset(dataset, out, **arguments | other, resume=True)
    image = out / KINDS[0] / "images/p1_ED_copy1.nii.gz"
    image.write_bytes(image.read_bytes()[:-1])
    notes: list[str] = []
    corrupt_dataset(dataset, out, **arguments | {"workers": 1}, resume=True, note=notes.append)
    assert notes == ["2 volumes done before, not done again"]
    before, after = digests(corrupted), digests(out)
    assert {name for name in before if before[name] != after[name]} == {"done.jsonl"}
    assert set(before) == set(after) - {".lock"}


def test_a_killed_worker_is_no_end(dataset: Dataset, tmp_path: Path) -> None:
    def kill(done: int, total: int, name: str) -> None:
        multiprocessing.active_children()[0].kill()

    many = tuple(replace(ref, patient=f"q{index}") for index in range(20) for ref in dataset.items)
    with pytest.raises(CoopsegError, match="one of 2 worker processes was killed"):
        corrupt_dataset(
            replace(dataset, items=many),
            tmp_path / "out",
            settings=SETTINGS,
            grid="published",
            workers=2,
            progress=kill,
        )
    assert (tmp_path / "out/done.jsonl").is_file()  # what was done stays
    assert not (tmp_path / "out/manifest.json").exists()
    assert not multiprocessing.active_children()


def test_refuses(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match="unknown corruption 'RandSwap'"):
        corrupt_dataset(dataset, tmp_path / "out", kinds=("RandSwap",))
    with pytest.raises(CoopsegError, match="grid 'nominal' is not known; use scan or published"):
        corrupt_dataset(dataset, tmp_path / "out", grid="nominal")  # type: ignore[arg-type]
    with pytest.raises(CoopsegError, match="copies must be 1 or more, found 0"):
        corrupt_dataset(dataset, tmp_path / "out", copies=0)
    with pytest.raises(CoopsegError, match="no volumes to corrupt"):
        corrupt_dataset(replace(dataset, items=()), tmp_path / "out")
    with pytest.raises(CoopsegError, match="workers must be 1 or more, found 0"):
        corrupt_dataset(dataset, tmp_path / "out", workers=0)
    bare = replace(dataset, items=(replace(dataset.items[0], label=None),))
    with pytest.raises(CoopsegError, match="p1_ED has no label; corrupt labelled volumes only"):
        corrupt_dataset(bare, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_the_crop_cuts_is_said_by_name(dataset: Dataset, tmp_path: Path) -> None:
    """The RV has rows 2 to 4 of 24, of which a crop of 16 cuts off 4 at either side."""
    said: list[str] = []
    small = CaseSettings(size=(16, 16), spacing=None)
    how: dict[str, Any] = {"copies": 1, "kinds": "RandBias", "grid": "published", "workers": 1}
    corrupt_dataset(dataset, tmp_path, settings=small, **how, warn=said.append)
    assert any("RV: the crop of 16 x 16 pixels cuts off 78 of its 117 pixels" in line for line in said), said


def test_refuses_slices_that_would_be_mistaken(tmp_path: Path) -> None:
    """Slices of 8 mm along the first axis are no longer the coarsest once pixels have 12 mm."""
    values = np.random.default_rng(0).random((4, 32, 32))
    for folder, data in (("images", values), ("labels", values > 0.5)):
        write_image(tmp_path / f"in/{folder}/p.nii.gz", data, affine=np.diag([8.0, 1.5, 1.5, 1.0]))
    dataset = open_dataset(tmp_path / "in")
    coarse = CaseSettings(size=(32, 32), spacing=12)
    with pytest.raises(CoopsegError, match=r"set cases\.slice_axis to 0"):
        corrupt_dataset(dataset, tmp_path / "out", settings=coarse, grid="published", workers=1)
    fixed = coarse.model_copy(update={"slice_axis": 0})
    assert corrupt_dataset(dataset, tmp_path / "out", settings=fixed, grid="published", workers=1)


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Scans as scanners store them: int16 with a slope and below 0, oblique, slices along the first axis.

    One is a frame of a 4-D file. Label values are far apart, and one does not fit a byte.
    """
    folder = tmp_path_factory.mktemp("awkward")
    generator = np.random.default_rng(3)
    labels = Labels(("background", "RV", "MYO", "LV"), (0, 500, 10, 820))
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(generator.normal(size=(3, 3)))[0] * (9, 1.5, 1.3)
    items = []
    for patient, shape in (("p1", (4, 30, 36)), ("p2", (4, 30, 36, 2))):
        image, label = folder / f"{patient}.nii.gz", folder / f"{patient}_gt.nii.gz"
        stored = nibabel.Nifti1Image(generator.integers(-90, 3000, shape).astype(np.int16), affine)
        stored.header["descrip"], stored.header["cal_max"] = b"of a scanner", 900
        stored.header.set_slope_inter(0.5, -7)
        nibabel.save(stored, image)  # which divides by the slope
        nibabel.save(
            nibabel.Nifti1Image(generator.choice(labels.values, shape).astype(np.int16), affine), label
        )
        items.append(ScanRef(patient, image, label, frame=1 if len(shape) == 4 else None))
    return Dataset("awkward", folder, "folder", labels, tuple(items))


@pytest.mark.parametrize("kinds", [KINDS, CHOICE_KINDS])
def test_copies_without_artefact_are_the_clean_scans(
    kinds: tuple[str, ...], awkward: Dataset, tmp_path: Path
) -> None:
    """Read by another library: voxels, place and label values; and severity 1 changes the voxels alone."""
    for severity in (0.0, 1.0):
        out = tmp_path / f"{severity}"
        corrupt_dataset(awkward, out, copies=1, kinds=kinds, severity=severity, workers=1)
        manifest = json.loads((out / "manifest.json").read_text())
        assert (manifest["grid"], len(manifest["volumes"])) == ("scan", 2 * len(kinds))
        for entry in manifest["volumes"]:
            found = open_dataset(out / entry["kind"])
            assert found.labels.meaning == awkward.labels.meaning
            assert json.loads((found.root / "dataset.json").read_text())["grid"] == "scan"
            assert not any(ref.normalised for ref in found.items)
            for part, name in (
                ("image", f"{entry['patient']}.nii.gz"),
                ("label", f"{entry['patient']}_gt.nii.gz"),
            ):
                clean: Any = nibabel.load(awkward.root / name)
                copy: Any = nibabel.load(out / entry["kind"] / entry[part])
                values = np.asanyarray(clean.dataobj)
                values = values[..., 1] if values.ndim == 4 else values
                np.testing.assert_array_equal(copy.affine, clean.affine)
                same = np.array_equal(np.asanyarray(copy.dataobj), values.astype(copy.get_data_dtype()))
                assert same == (part == "label" or severity == 0), (entry["kind"], part)
                for key in ("descrip", "cal_max", "sform_code", "qform_code", "quatern_b", "xyzt_units"):
                    assert copy.header[key] == clean.header[key]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_artefacts_of_the_scan_grid_are_those_of_its_slices(
    kind: str, awkward: Dataset, tmp_path: Path
) -> None:
    """Made anew: slices put first by hand, scaled by numpy, the artefact as drawn, and all of it undone."""
    settings = CaseSettings(percentiles=(5, 90), slice_axis=0)
    one = replace(awkward, items=awkward.items[:1])
    corrupt_dataset(one, tmp_path / "out", copies=1, kinds=kind, settings=settings, workers=1)
    (entry,) = json.loads((tmp_path / "out/manifest.json").read_text())["volumes"]
    drawn = sample_corruption(kind, corruption_generator(0, case="p1", kind=kind, copy=1))
    assert entry["parameters"] == drawn.parameters
    scan = load_scan(one.items[0])
    turned = find_orientation(scan.affine, scan.data.shape, slice_axis=0)
    data = scan.data.transpose(turned.axes)
    flipped = tuple(axis for axis in range(3) if turned.flips[axis])
    low, high = np.percentile(scan.data, (5, 90))
    spacing = scan.spacing[list(turned.axes)]
    made = apply_corruption(
        (np.flip(data, flipped) - low) / (high - low), drawn, spacing=spacing, rescale=False
    )
    expected = np.flip(made * (high - low) + low, flipped).transpose(np.argsort(turned.axes))
    found = load_scan(ScanRef("", tmp_path / "out" / kind / entry["image"]))
    if kind not in ("RandBlur", "RandDownsample"):  # which bring extremes nearer
        assert (expected.min() < low, expected.max() > high) == (True, True)  # nothing was clipped
    np.testing.assert_allclose(found.data, expected, atol=1e-3 * (high - low))


def test_a_normalised_data_set_stays_so(corrupted: Path, tmp_path: Path) -> None:
    """Without artefact copies are equal, with one they stay in [0, 1]."""
    prepared = open_dataset(corrupted / KINDS[0])
    source = replace(prepared, items=tuple(replace(ref, copy=0) for ref in prepared.items[::2]))
    for severity in (0.0, 1.0):
        out = tmp_path / f"{severity}"
        corrupt_dataset(source, out, copies=1, kinds=ALL_KINDS, severity=severity, workers=1)
        for kind in ALL_KINDS:
            found = open_dataset(out / kind)
            assert all(ref.normalised for ref in found.items)
            copy, clean = (load_scan(dataset.items[0]).data for dataset in (found, source))
            assert (copy.min(), copy.max()) == (0, 1)
            assert np.array_equal(copy, clean) == (severity == 0)


GRID_SETTINGS = CaseSettings(size=(48, 64), slice_minmax=False, percentiles=(0, 100))


def oblique(seed: int) -> np.ndarray:
    """A rotated affine, axes in any order and direction, 10 mm along one of them."""
    generator = np.random.default_rng(seed)
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    spacing = np.roll([1.1, 1.6, 10.0], generator.integers(3))
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * generator.choice([-1, 1], 3)
    affine[:3, 3] = generator.normal(scale=80, size=3)
    return affine


def blob(shape: tuple[int, ...], affine: np.ndarray, place: np.ndarray) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    distance = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - place, axis=-1)
    return np.asarray(np.exp(-((distance / 8) ** 2)), np.float32)


def centroid(scan: Scan) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, scan.data.shape), indexing="ij"), -1)
    mean = (index * scan.data[..., None]).sum((0, 1, 2)) / scan.data.sum()
    return np.asarray(scan.affine[:3, :3] @ mean + scan.affine[:3, 3])


@pytest.mark.parametrize("seed", range(8))
def test_world_positions_survive(seed: int) -> None:
    affine = oblique(seed)
    shape = tuple(9 if side > 5 else 60 for side in np.linalg.norm(affine[:3, :3], axis=0))
    place = affine[:3, :3] @ (np.array(shape) * 0.55) + affine[:3, 3]
    scan = Scan(blob(shape, affine, place), affine)
    case = prepare(scan, GRID_SETTINGS)
    stored = case_as_scan(case.image[:, 0], scan=scan, record=case.record)
    np.testing.assert_allclose(centroid(stored), centroid(scan), atol=0.05)
    np.testing.assert_allclose(sorted(stored.spacing), [1.36719, 1.36719, 10], atol=1e-6)
    again = prepare(stored, GRID_SETTINGS, normalised=True)
    np.testing.assert_array_equal(again.image, case.image)
