"""Settings adapted to a made-up CT set lose next to nothing, and say what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coopseg.cases.adapt import adapt_cases
from coopseg.cases.collect import load_cases
from coopseg.cases.lost import MOST_LOST, describe_lost, sum_lost
from coopseg.cases.prepare import prepare
from coopseg.checks.validate import validate_dataset
from coopseg.config.resolve import resolve_settings
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_scan
from coopseg.scans.nifti import write_image
from coopseg.scans.types import Dataset
from coopseg.training.inputs import adapt_request, make_request, resolve_request

LABELS = "liver=1,tumour=2"


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four bodies of 400 mm in air of -1000, a liver in the middle, a tumour 170 mm off the centre."""
    root = tmp_path_factory.mktemp("ct")
    for seed, pixel in enumerate((1.9, 2.0, 2.0, 2.3)):
        rng = np.random.default_rng(seed)
        x, y, _ = (np.indices((240, 240, 3)) - 119.5) * pixel
        image = np.where(np.hypot(x, y) < 200, rng.normal(40, 15, x.shape), -1000)
        label = np.where(np.hypot(x, y) < 50, 1, 0)
        label[np.hypot(x - 170, y + 5) < 9] = 2
        image[label == 1] += 60
        image[label == 2] = rng.normal(900, 80, int((label == 2).sum()))
        for folder, data in (("images", image.round()), ("labels", label)):
            affine = np.diag([-pixel, -pixel, 5, 1])
            write_image(root / folder / f"p{seed}.nii.gz", data, affine=affine, dtype=np.int16)
    return open_dataset(root, labels=LABELS)


def adapted(dataset: Dataset, settings: CaseSettings, **given: Any) -> CaseSettings:
    settings = settings.model_copy(update=given)
    names = [f"cases.{name}" for name in given]
    found = adapt_cases(dataset, settings, patients=dataset.patients, given=names).settings
    assert not set(found) & set(names)
    values = {name.removeprefix("cases."): value for name, value in found.items()}
    return CaseSettings.checked(settings.model_dump() | values)


def test_a_ct_set_loses_next_to_nothing(ct: Dataset) -> None:
    """The default cuts a whole class; adapted settings keep 99.9 % of each in place and in intensity."""
    settings = adapted(ct, CaseSettings())
    assert settings.spacing == 2.0
    assert not settings.slice_minmax
    low, high = settings.window or (0, 0)
    for ref, case in zip(ct.items, load_cases(ct, settings, names=ct.labels.names), strict=True):
        assert case.label is not None
        assert ref.id.startswith("p")
        for index, name in enumerate(ct.labels.names[1:], start=1):
            assert case.lost.cut[name].share <= MOST_LOST
            assert case.lost.cut[name].whole - case.lost.cut[name].lost == (case.label == index).sum()
    classes = {1: (100, 15), 2: (900, 80)}
    for mean, deviation in classes.values():
        assert low < mean - 2.5 * deviation
        assert high > mean + 2.5 * deviation
    assert (low, high) > (-100, 900)  # air is far outside
    before = sum_lost(c.lost for c in load_cases(ct, CaseSettings(), names=ct.labels.names))
    assert before.shares == {"tumour": 1.0}
    line = describe_lost(before, CaseSettings())
    assert "cuts 100.0% of tumour; " in line
    assert line.endswith("% of voxels are clipped to percentiles 2 to 98")


def test_validate_says_what_is_cut_and_adapts(ct: Dataset) -> None:
    report = validate_dataset(ct)
    (finding,) = [finding for finding in report.findings if finding.rule == "crop-cuts"]
    assert finding.found.startswith("the crop of 192 x 192 pixels cuts 100.0% of tumour; most in p")
    better = validate_dataset(ct, adapt=True)
    assert not [finding for finding in better.findings if finding.rule == "crop-cuts"]
    assert better.adapted.startswith(
        "adapted to 3 scans of 3 training and validation patients of split random-0 (Hounsfield units): "
        "cases.spacing=2.0, cases.size=["
    )
    assert " mm cuts up to 0.1% of a class; " in better.crop
    assert "% of voxels are clipped to the window " in better.crop
    given = validate_dataset(ct, settings=["cases.size=[208, 208]", "cases.spacing=2"])
    assert given.crop.startswith("the crop of 208 x 208 pixels of 2 mm cuts ")


def test_a_smaller_crop_would_cut(ct: Dataset) -> None:
    settings = adapted(ct, CaseSettings())
    side = settings.size[0] * 10 // 11 // 16 * 16 - 16
    smaller = settings.model_copy(update={"size": (side, side)})
    assert sum_lost(c.lost for c in load_cases(ct, smaller, names=ct.labels.names)).shares


def test_given_settings_stay(ct: Dataset) -> None:
    coarse = adapted(ct, CaseSettings(), spacing=4.0)
    assert coarse.spacing == 4.0
    assert coarse.size[0] < adapted(ct, CaseSettings()).size[0]
    assert adapted(ct, CaseSettings(), window=(-5.0, 5.0)).window == (-5, 5)


def test_the_request_holds_plain_settings(ct: Dataset) -> None:
    request = make_request(ct, preset="quick", settings={"cases.spacing": 3.0})
    again, line = adapt_request(request, ct)
    assert line.startswith(  # none of the test patient
        "adapted to 3 scans of 3 training and validation patients of split random-0 (Hounsfield units): "
        "cases.size=["
    )
    assert set(again.settings) == {"cases.spacing", "cases.size", "cases.window", "cases.slice_minmax"}
    assert resolve_request(again).cases.spacing == 3.0
    stored = type(again).checked(again.model_dump(mode="json"))
    assert resolve_request(stored) == resolve_request(again)


def test_validate_adapts_to_whom_train_does(ct: Dataset, tmp_path: Path) -> None:
    """The patient with the largest pixels decides; of a split only those count who train or validate."""
    split = tmp_path / "split.json"
    for parts in (
        {"train": ["p3"], "validate": ["p2"], "test": ["p0"]},
        {"train": ["p1"], "validate": ["p0"], "test": ["p3"]},
        {"train": ["p2"], "validate": ["p3"]},  # p0 and p1 are in no part
    ):
        split.write_text(json.dumps(parts))
        ours = validate_dataset(ct, splits=[split], adapt=True).adapted
        assert ours == adapt_request(make_request(ct, split=split), ct)[1]
        assert f"2 scans of 2 training and validation patients of split {split} (" in ours
    assert validate_dataset(ct, adapt=True).adapted == adapt_request(make_request(ct), ct)[1]
    assert "split random-0" in validate_dataset(ct, splits=["random"], adapt=True).adapted


def test_what_validate_prints_can_be_given_to_set(ct: Dataset) -> None:
    """So that a benchmark, which has no --adapt, can have the same settings for all of its draws."""
    line = validate_dataset(ct, adapt=True).adapted
    words = line.partition("): ")[2].replace(", cases.", "\ncases.").splitlines()
    chosen, _ = adapt_request(make_request(ct), ct)
    assert resolve_settings(overrides=words).cases == resolve_settings(overrides=chosen.settings).cases
    assert len(words) == 4


def test_mr_keeps_percentiles(phantom: dict[str, Path]) -> None:
    dataset = open_dataset(phantom["acdc"])
    settings = adapted(dataset, CaseSettings())
    assert settings.window is None
    assert settings.slice_minmax
    lost = sum_lost(c.lost for c in load_cases(dataset, settings, names=dataset.labels.names))
    assert not lost.shares
    with pytest.raises(CoopsegError, match="no labelled scan to adapt to"):
        adapt_cases(dataset, settings, patients=())


def test_ct_under_a_rule_for_mr_is_said(ct: Dataset) -> None:
    """In training, and with the settings of a model, which know the axis of its slices."""
    scan = load_scan(ct.items[0])
    ours, model = CaseSettings(), CaseSettings(trained_axis=2)
    assert prepare(scan, ours).warnings == (
        "looks like CT in Hounsfield units, but intensities are scaled by percentiles, as for MR; give "
        "--adapt, or set cases.window",
    )
    assert prepare(scan, model).warnings == (
        "looks like CT in Hounsfield units, but the model scales intensities by percentiles, as for MR; use "
        "a model trained on CT with --adapt",
    )
    assert prepare(scan, adapted(ct, ours)).warnings == ()
    (finding,) = [f for f in validate_dataset(ct).findings if f.rule == "other-modality"]
    assert (finding.file, finding.do) == ("", "give --adapt, or set cases.window")
    assert finding.found.startswith("all 4 files: looks like CT")


def test_mr_with_a_few_negative_values_is_no_ct(phantom: dict[str, Path]) -> None:
    """Cubic interpolation undershoots beside bright fat; a wrong offset shifts every voxel a little."""
    scan = load_scan(open_dataset(phantom["acdc"]).items[0])
    few = scan.data.copy()
    few.flat[: few.size // 200] = -700
    shifted = scan.data - 300
    floating = scan.data * 3.7 - 1000.5  # many are below -500, but Hounsfield units are whole numbers
    for data in (scan.data, few, shifted, floating):
        assert prepare(replace(scan, data=data), CaseSettings()).warnings == ()


def test_mr_in_a_window_for_ct_is_said(phantom: dict[str, Path]) -> None:
    scan = load_scan(open_dataset(phantom["acdc"]).items[0])
    assert prepare(scan, CaseSettings(window=(-160, 240), trained_axis=2)).warnings == (
        "has no negative value, but the window -160 to 240 is for Hounsfield units of CT; use a model "
        "trained on MR",
    )
    assert prepare(scan, CaseSettings(window=(0, 2000))).warnings == ()


def test_a_window_is_in_units_of_the_scan(ct: Dataset) -> None:
    scan = load_scan(ct.items[0])
    settings = CaseSettings(window=(-160, 240), spacing=None, size=(240, 240), slice_minmax=False)
    case = prepare(scan, settings)
    assert case.record.clip == ((-160, 240),)
    expected = np.clip((scan.data + 160) / 400, 0, 1)
    np.testing.assert_allclose(np.sort(case.image, axis=None), np.sort(expected, axis=None), atol=1e-6)
    outside = ((scan.data < -160) | (scan.data > 240)).sum()
    assert (case.lost.clipped.lost, case.lost.clipped.whole) == (outside, scan.data.size)
    blank = prepare(scan, settings.model_copy(update={"window": (5000.0, 6000.0)}))
    assert "every voxel lies outside cases.window, 5000 to 6000; the case" in blank.warnings[-1]
