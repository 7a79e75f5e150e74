"""Loading whole data sets; cache entries that are damaged, stale or shared."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from coopseg.cases.collect import cached, case_key, load_cases
from coopseg.cases.prepare import Case, prepare
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.layouts import open_dataset
from coopseg.scans.types import Scan

NAMES = ("background", "LV", "MYO", "RV")
SETTINGS = CaseSettings(spacing=2.5, size=(96, 96))


def test_cases_come_in_order_with_their_refs(phantom: dict[str, Path]) -> None:
    dataset = open_dataset(phantom["acdc"])
    cases = load_cases(dataset, SETTINGS, names=NAMES)
    assert [case.ref for case in cases] == list(dataset.items)
    for case in cases:
        assert case.label is not None
        assert case.image[:, 0].shape == case.label.shape == (case.record.slices, 96, 96)
        assert case.image.dtype == np.float32
        assert case.label.dtype == np.uint8
        assert case.image.min() == 0
        assert case.image.max() == 1
        assert all("check it against the scanner" in line for line in case.warnings)  # one has 4.02 mm


@pytest.mark.parametrize("layout", ["acdc", "mnms"])
def test_labels_are_matched_by_name(phantom: dict[str, Path], layout: str) -> None:
    """The cavity is round and inside the myocardium in both, though it is 3 in one and 1 in the other."""
    for case in load_cases(open_dataset(phantom[layout]), SETTINGS, names=NAMES):
        assert case.label is not None
        middle = case.label[len(case.label) // 2]
        rows, columns = np.nonzero(middle == 1)
        ring = np.argwhere(middle == 2)
        assert ring.min(0)[0] < rows.min() <= rows.max() < ring.max(0)[0]
        assert ring.min(0)[1] < columns.min() <= columns.max() < ring.max(0)[1]


def test_some_patients_only(phantom: dict[str, Path]) -> None:
    dataset = open_dataset(phantom["mnms"])
    wanted = dataset.patients[2:4]
    cases = load_cases(dataset, SETTINGS, names=NAMES, patients=wanted)
    assert [case.ref and case.ref.id for case in cases] == [
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
    folder = tmp_path / "acdc" / "patientP001"
    shutil.copytree(phantom["acdc"] / "patientP001", folder)
    (folder / "patientP001_frame01_gt.nii.gz").unlink()
    dataset = open_dataset(tmp_path / "acdc")
    with pytest.raises(CoopsegError, match=r"patientP001_frame01\.nii\.gz: no label .* leave \w+ out"):
        load_cases(dataset, SETTINGS, names=NAMES)


SMALL = CaseSettings(spacing=1.2, size=(16, 16))


def make_case(*, labelled: bool = True) -> Case:
    data = np.random.default_rng(0).normal(size=(20, 18, 3)).astype(np.float32)
    scan = Scan(data, np.diag([-1.5, -1.5, 8, 1.0]))
    return prepare(scan, SMALL, label=(data > 1).astype(np.uint8) if labelled else None)


def never() -> Case:
    raise AssertionError("computed again")


@pytest.mark.parametrize("labelled", [True, False])
def test_second_time_comes_from_disk_and_is_equal(tmp_path: Path, labelled: bool) -> None:
    first = cached(tmp_path, "key", lambda: make_case(labelled=labelled))
    second = cached(tmp_path, "key", never)
    np.testing.assert_array_equal(second.image, first.image)
    assert second.image.dtype == np.float32
    if labelled:
        np.testing.assert_array_equal(second.label, first.label)
        assert second.label is not None
        assert second.label.dtype == np.uint8
    else:
        assert second.label is None
    assert (second.record, second.warnings) == (first.record, first.warnings)
    assert [path.name for path in tmp_path.iterdir()] == ["key.case"]  # no temporary file is left


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "renamed"])
def test_damaged_entry_is_made_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = cached(tmp_path, "key", make_case)
    path = tmp_path / "key.case"
    content = bytearray(path.read_bytes())
    renamed = content.replace(b"label.npy", b"lapel.npy")  # a zip whose CRCs hold, without its label
    content[len(content) // 2] ^= 0xFF
    damaged = {"truncated": content[:99], "flipped": content, "empty": b"", "renamed": renamed}
    path.write_bytes(bytes(damaged[damage]))
    with caplog.at_level(logging.WARNING):
        result = cached(tmp_path, "key", make_case)
    assert "damaged cache entry" in caplog.text
    for case in (result, cached(tmp_path, "key", never)):
        np.testing.assert_array_equal(case.image, expected.image)
        np.testing.assert_array_equal(case.label, expected.label)


def test_no_folder_no_cache() -> None:
    assert cached(None, "key", make_case).image.shape == (3, 1, 16, 16)


def test_key_depends_on_content_and_context_not_on_names(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in "abc")
    first.write_bytes(b"scan")
    second.write_bytes(b"scan")
    other.write_bytes(b"Scan")
    key = case_key([first], {"a": 1})
    assert key == case_key([second], {"a": 1})
    others = (case_key([other], {"a": 1}), case_key([first], {"a": 2}), case_key([first, first], {"a": 1}))
    assert len({key, *others}) == 4
