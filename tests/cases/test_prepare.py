"""Preparation and its undoing against slow versions and by property; the record as JSON."""

from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import asdict
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.ndimage import map_coordinates

from coopseg.cases.collect import load_cases
from coopseg.cases.prepare import Case, Record, most_probable, prepare, restore
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.geometry import Orientation
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.types import Scan

NAMES = ("background", "LV", "MYO", "RV")
READER = TypeAdapter(Record)
STORED = CaseSettings(spacing=None, size=(32, 32))
ORIENTATIONS = [(axes, flips) for axes in permutations(range(3)) for flips in product((1, -1), repeat=3)]


def truth_of(case: Case) -> np.ndarray:
    """The label of a case that has one."""
    assert case.label is not None
    return case.label


def make_scan(
    shape: tuple[int, int, int] = (20, 26, 4), spacing: tuple[float, ...] = (1.5, 1.5, 8.0)
) -> Scan:
    data = np.random.default_rng(0).gamma(2, 200, shape).astype(np.float32)
    return Scan(data, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]), Path("scan.nii.gz"))


def one_hot(label: np.ndarray, classes: int = 4) -> np.ndarray:
    return (label[None] == np.arange(classes)[:, None, None, None]).astype(np.float32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 1.0 if not (a.any() or b.any()) else 2 * (a & b).sum() / (a.sum() + b.sum())


def turn(
    scan: Scan, label: np.ndarray, axes: tuple[int, ...], flips: tuple[int, ...]
) -> tuple[Scan, np.ndarray]:
    """The same scan stored in another order of axes and directions, its affine to match."""
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, old in enumerate(axes):
        change[old, new] = flips[new]
        change[old, 3] = 0 if flips[new] > 0 else scan.data.shape[old] - 1
    steps = tuple(slice(None, None, flip) for flip in flips)
    turned = Scan(scan.data.transpose(axes)[steps], scan.affine @ change, scan.path)
    return turned, label.transpose(axes)[steps]


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_all_48_orientations_give_one_case_and_exact_labels_back(
    axes: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    scan = make_scan()
    label = np.random.default_rng(1).integers(0, 4, scan.data.shape).astype(np.uint8)
    reference = prepare(scan, STORED, label=label)
    turned, turned_label = turn(scan, label, axes, flips)
    case = prepare(turned, STORED, label=turned_label)
    np.testing.assert_array_equal(case.image, reference.image)
    np.testing.assert_array_equal(case.label, reference.label)
    np.testing.assert_array_equal(restore(one_hot(truth_of(case)), case.record), turned_label)


def test_crop_loses_only_what_lies_outside() -> None:
    scan = make_scan((40, 24, 3))
    label = np.random.default_rng(1).integers(0, 4, scan.data.shape).astype(np.uint8)
    case = prepare(scan, CaseSettings(spacing=None, size=(16, 32)), label=label)
    restored = restore(one_hot(truth_of(case)), case.record)
    expected = np.zeros_like(label)
    expected[4:36, 4:20] = label[4:36, 4:20]
    np.testing.assert_array_equal(restored, expected)


@pytest.mark.parametrize("spacing", [1.5, 1.50005, None])
def test_no_interpolation_where_spacing_is_met(spacing: float | None) -> None:
    scan = make_scan()
    case = prepare(scan, CaseSettings(spacing=spacing, size=(32, 32), slice_minmax=False))
    assert case.record.clip is not None
    ((low, high),) = case.record.clip
    expected = ((scan.data.clip(low, high) - low) / (high - low)).transpose(2, 1, 0)
    np.testing.assert_allclose(case.image[:, 0, 3:29, 6:26], expected, atol=1e-6)
    assert case.record.steps == (1, 1)
    assert case.image.sum() == pytest.approx(float(expected.sum()), rel=1e-5)  # zeros around


def test_image_against_scipy_step_by_step() -> None:
    scan = make_scan((20, 26, 4), (1.4, 1.7, 8.0))
    case = prepare(scan, CaseSettings(spacing=1.2, size=(16, 16)))
    low, high = np.percentile(scan.data, (2, 98))
    scaled = ((scan.data.clip(low, high) - low) / (high - low)).transpose(2, 1, 0)
    rows, columns = round(26 * 1.7 / 1.2), round(20 * 1.4 / 1.2)
    at = np.meshgrid(
        ((np.arange(16) + (rows - 16) // 2) - (rows - 1) / 2) * 1.2 / 1.7 + 12.5,
        ((np.arange(16) + (columns - 16) // 2) - (columns - 1) / 2) * 1.2 / 1.4 + 9.5,
        indexing="ij",
    )
    for index in range(4):
        expected = map_coordinates(scaled[index], at, order=1, mode="nearest")
        expected = (expected - expected.min()) / (expected.max() - expected.min())
        np.testing.assert_allclose(case.image[index, 0], expected, atol=1e-5)
    assert case.record.resampled == (rows, columns)
    np.testing.assert_allclose(case.record.spacing, (8, 1.2, 1.2))


def slow_restore(probabilities: np.ndarray, record: Record) -> np.ndarray:
    """Class indices (slices, rows, columns): background filled in, then scipy, point by point."""
    (rows, columns), (height, width) = record.resampled, record.size
    whole = np.zeros((*probabilities.shape[:2], rows, columns))
    whole[0] = 1
    top, left = (rows - height) // 2, (columns - width) // 2
    for r in range(max(top, 0), min(top + height, rows)):
        for c in range(max(left, 0), min(left + width, columns)):
            whole[:, :, r, c] = probabilities[:, :, r - top, c - left]
    centres = [
        (np.arange(n) - (n - 1) / 2) / step + (m - 1) / 2
        for n, m, step in zip(record.plane, record.resampled, record.steps, strict=True)
    ]
    at = np.meshgrid(*centres, indexing="ij")
    return np.array([[map_coordinates(s, at, order=1, mode="nearest") for s in k] for k in whole]).argmax(0)


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (48, 16)])
@pytest.mark.parametrize("spacing", [1.1, 2.0])
def test_restore_against_scipy(size: tuple[int, int], spacing: float) -> None:
    case = prepare(make_scan((33, 26, 3), (1.4, 1.7, 8.0)), CaseSettings(spacing=spacing, size=size))
    random = np.random.default_rng(0).random((4, 3, *size)).astype(np.float32)
    probabilities = random / random.sum(0)
    restored = restore(probabilities, case.record)
    assert restored.shape == (33, 26, 3)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored.transpose(2, 1, 0), slow_restore(probabilities, case.record))


def test_restore_refuses_another_shape() -> None:
    record = prepare(make_scan(), STORED).record
    with pytest.raises(ValueError, match=r"must be \(classes, 4, 32, 32\), found \(4, 3, 32, 32\)"):
        restore(np.zeros((4, 3, 32, 32), np.float32), record)


def test_constant_and_blank_scans_are_zeros_and_said_so() -> None:
    case = prepare(Scan(np.full((20, 20, 3), 7.0, np.float32), np.eye(4)), STORED)
    assert not case.image.any()
    assert case.warnings == ("image: percentiles 2 and 98 of the volume are both 7, the case is blank",)
    windowed = STORED.model_copy(update={"window": (0.0, 10.0)})
    for settings, value, normalised in ((windowed, 7.0, False), (STORED, 0.5, True)):
        case = prepare(
            Scan(np.full((20, 20, 3), value, np.float32), np.eye(4)), settings, normalised=normalised
        )
        assert case.warnings == (f"image: every voxel is {value:g}, the case is blank",)


def test_normalised_scan_is_not_clipped() -> None:
    scan = make_scan()
    unit = Scan(scan.data / scan.data.max(), scan.affine, scan.path)
    case = prepare(unit, CaseSettings(spacing=None, size=(32, 32), slice_minmax=False), normalised=True)
    np.testing.assert_array_equal(case.image[:, 0, 3:29, 6:26], unit.data.transpose(2, 1, 0))
    assert case.record.clip is None
    assert READER.validate_json(json.dumps(asdict(case.record))) == case.record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.zeros((4, 4, 4, 2), np.float32)}, "scan.nii.gz: shape .* is not 3-D"),
        ({"data": np.full((4, 4, 4), np.nan, np.float32)}, "scan.nii.gz: holds NaN"),
        ({"label": np.zeros((4, 4, 5), np.uint8)}, "scan.nii.gz: shape .* its label"),
        (
            {"normalised": True, "data": np.full((4, 4, 4), 1.5, np.float32)},
            "scan.nii.gz: said to be normalised",
        ),
    ],
)
def test_wrong_input_is_refused(change: dict[str, Any], message: str) -> None:
    scan = Scan(change.pop("data", np.zeros((4, 4, 4), np.float32)), np.eye(4), Path("scan.nii.gz"))
    with pytest.raises(CoopsegError, match=message):
        prepare(scan, STORED, **change)


def test_structure_cut_by_the_crop_is_warned_of() -> None:
    label = np.zeros((20, 26, 4), np.uint8)
    label[8:12, 0:6, 2] = 3
    case = prepare(make_scan(), CaseSettings(spacing=None, size=(16, 32)), label=label, names=NAMES)
    assert case.warnings == ("RV: the crop of 16 x 32 pixels cuts off 20 of its 24 pixels",)


def round_trips(folder: Path, settings: CaseSettings, *, every: int = 1) -> np.ndarray:
    """(volumes, 3) Dice of label to case and back, over volumes whose structures lie within the crop."""
    dataset = open_dataset(folder)
    scores = []
    for case in load_cases(dataset, settings, names=NAMES, patients=dataset.patients[::every]):
        assert case.ref is not None
        stored = load_label(case.ref)
        assert stored is not None
        truth = labels_to_indices(stored.data, dataset.labels, names=NAMES, path=stored.path)
        restored = restore(one_hot(truth_of(case)), case.record)
        if not any("the crop" in line for line in case.warnings):
            scores.append([dice(restored == index, truth == index) for index in (1, 2, 3)])
    return np.array(scores)


@pytest.mark.parametrize("layout", ["acdc", "mnms"])
def test_phantom_labels_survive_resampling(phantom: dict[str, Path], layout: str) -> None:
    scores = round_trips(phantom[layout], CaseSettings(spacing=1.36719))
    assert len(scores) == 12
    assert scores.mean(1).min() >= 0.97


@pytest.mark.parametrize("layout", ["acdc", "mnms"])
def test_phantom_labels_are_identical_without_resampling(phantom: dict[str, Path], layout: str) -> None:
    assert (round_trips(phantom[layout], CaseSettings(spacing=None, size=(96, 96))) == 1).all()


@pytest.mark.real
@pytest.mark.parametrize(("layout", "every"), [("acdc", 8), ("mnms", 3)])
def test_real_labels_survive_resampling(real_data: Path, layout: str, every: int) -> None:
    """Nearest neighbour onto a coarser grid costs M&Ms' thin myocardium most: 0.960 at worst."""
    scores = round_trips(real_data / layout, CaseSettings(), every=every)
    assert len(scores) >= 16
    assert scores.mean(1).min() >= 0.97
    assert scores.min() >= 0.955


@pytest.mark.real
@pytest.mark.parametrize(("layout", "every"), [("acdc", 16), ("mnms", 6)])
def test_real_labels_are_identical_without_resampling(real_data: Path, layout: str, every: int) -> None:
    assert (round_trips(real_data / layout, CaseSettings(spacing=None), every=every) == 1).all()


@pytest.mark.real
def test_a_real_volume_takes_less_than_a_tenth_of_a_second(real_data: Path) -> None:
    scan = load_scan(open_dataset(real_data / "acdc").items[0])
    start = time.process_time()
    case: Case = prepare(scan, CaseSettings())
    middle = time.process_time()
    restore(np.full((4, *case.image[:, 0].shape), 0.25, np.float32), case.record)
    assert middle - start < 0.1
    assert time.process_time() - middle < 0.1


@pytest.mark.parametrize("classes", [1, 2, 4, 255])
def test_most_probable_is_the_first_of_the_greatest(classes: int) -> None:
    values = np.random.default_rng(classes).integers(0, 4, (classes, 3, 5, 7)).astype(np.float32)
    kept = values.copy()
    found = most_probable(values)
    assert found.dtype == np.uint8
    assert np.array_equal(found, values.argmax(0))
    assert np.array_equal(values, kept)


RECORD = Record(
    shape=(30, 40, 5),
    orientation=Orientation((2, 1, 0), (True, False, True)),
    stored_spacing=(8.0, 1.5, 1.25),
    clip=((3.5, 811.0),),
    steps=(0.8, 0.96),
    resampled=(50, 31),
    size=(32, 48),
)


def test_json_round_trip_is_exact() -> None:
    assert READER.validate_json(json.dumps(asdict(RECORD))) == RECORD


def test_derived_geometry() -> None:
    assert RECORD.slices == 5
    assert RECORD.plane == (40, 30)
    np.testing.assert_allclose(RECORD.spacing, (8, 1.2, 1.2))


def test_is_frozen() -> None:
    with pytest.raises(AttributeError):
        RECORD.clip = None  # type: ignore[misc]


@pytest.mark.parametrize("turned", [False, True])
def test_an_array_half_way_is_bounded_too(turned: bool) -> None:
    """Long narrow pixels: 400 x 40000 of them after resampling, but 2000 x 40000 before the rows follow."""
    affine = np.diag([0.1, 10, 5, 1] if turned else [10, 0.1, 5, 1])
    scan = Scan(np.zeros((2000, 2000, 1), np.float32), affine, Path("x.nii"))
    settings = CaseSettings(size=(16, 16), spacing=0.5)
    if turned:  # the columns shrink first, to 400, so that nothing is larger than before and after
        assert prepare(scan, settings).record.resampled == (40_000, 400)
        return
    tracemalloc.start()
    with pytest.raises(CoopsegError, match=r"x\.nii: .* would become 1 slices of 2000 x 40000 pixels"):
        prepare(scan, settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def test_the_canvas_is_bounded() -> None:
    scan = Scan(np.zeros((32, 32, 30), np.float32), np.diag([1, 1, 5, 1]), Path("x.nii"))
    with pytest.raises(CoopsegError, match="would become 30 slices of 4000 x 4000 pixels"):
        prepare(scan, CaseSettings(size=(32, 32), spacing=1), canvas=(4000, 4000))
