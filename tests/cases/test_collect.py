"""A data set's cases: order, labels by name, cache, missing labels."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coopseg.cases.collect import load_case, load_cases
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.layouts import open_dataset

NAMES = ("background", "LV", "MYO", "RV")
SETTINGS = CaseSettings(spacing=2.5, size=(96, 96))


def test_cases_come_in_order_with_their_refs(phantom: dict[str, Path]) -> None:
    dataset = open_dataset(phantom["acdc"])
    cases = load_cases(dataset, SETTINGS, names=NAMES)
    assert [case.ref for case in cases] == list(dataset.items)
    for case in cases:
        assert case.image.shape == case.label.shape == (case.record.slices, 96, 96)
        assert case.image.dtype == np.float32
        assert case.label.dtype == np.uint8
        assert case.image.min() == 0
        assert case.image.max() == 1
        assert case.warnings == ()


@pytest.mark.parametrize("layout", ["acdc", "mnms"])
def test_labels_are_matched_by_name(phantom: dict[str, Path], layout: str) -> None:
    """The cavity is round and inside the myocardium in both, though it is 3 in one and 1 in the other."""
    for case in load_cases(open_dataset(phantom[layout]), SETTINGS, names=NAMES):
        middle = case.label[len(case.label) // 2]
        rows, columns = np.nonzero(middle == 1)
        ring = np.argwhere(middle == 2)
        assert ring.min(0)[0] < rows.min() <= rows.max() < ring.max(0)[0]
        assert ring.min(0)[1] < columns.min() <= columns.max() < ring.max(0)[1]


def test_some_patients_only(phantom: dict[str, Path]) -> None:
    dataset = open_dataset(phantom["mnms"])
    wanted = dataset.patients[2:4]
    cases = load_cases(dataset, SETTINGS, names=NAMES, patients=wanted)
    assert [case.ref.id for case in cases] == [
        f"{patient}_{phase}" for patient in wanted for phase in ("ED", "ES")
    ]
    with pytest.raises(CoopsegError, match="no such patients: nobody"):
        load_cases(dataset, SETTINGS, names=NAMES, patients=["nobody"])


def test_cache_gives_equal_cases_and_tells_frames_apart(phantom: dict[str, Path], tmp_path: Path) -> None:
    dataset = open_dataset(phantom["mnms"])
    fresh = load_cases(dataset, SETTINGS, names=NAMES)
    for _ in range(2):
        stored = load_cases(dataset, SETTINGS, names=NAMES, cache_dir=tmp_path)
        for a, b in zip(fresh, stored, strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.label, b.label)
            assert (a.record, a.ref, a.warnings) == (b.record, b.ref, b.warnings)
    assert len(list(tmp_path.iterdir())) == len(dataset.items)  # ED and ES share a file, not an entry
    load_cases(dataset, CaseSettings(spacing=2.5, size=(80, 80)), names=NAMES, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * len(dataset.items)


def test_missing_label(phantom: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "acdc" / "patient001"
    shutil.copytree(phantom["acdc"] / "patient001", folder)
    (folder / "patient001_frame01_gt.nii.gz").unlink()
    dataset = open_dataset(tmp_path / "acdc")
    with pytest.raises(CoopsegError, match=r"patient001_frame01\.nii\.gz: no label .* leave patient001 out"):
        load_cases(dataset, SETTINGS, names=NAMES)
    cases = load_cases(dataset, SETTINGS, names=NAMES, require_labels=False)
    assert [case.label is None for case in cases] == [True, False]


def test_label_and_no_label_are_two_entries(phantom: dict[str, Path], tmp_path: Path) -> None:
    dataset = open_dataset(phantom["acdc"])
    for ref in (dataset.items[0], replace(dataset.items[0], label=None)):
        case = load_case(ref, dataset.labels, SETTINGS, names=NAMES, cache_dir=tmp_path, require_label=False)
        assert (case.label is None) == (ref.label is None)
