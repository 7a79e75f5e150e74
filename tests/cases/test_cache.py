"""Cases on disk: found by content, made anew when damaged."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from coopseg.cases.cache import cached, case_key
from coopseg.cases.prepare import Case, prepare
from coopseg.config.settings import CaseSettings
from coopseg.scans.types import Scan

SETTINGS = CaseSettings(spacing=1.2, size=(16, 16))


def make_case(*, labelled: bool = True) -> Case:
    data = np.random.default_rng(0).normal(size=(20, 18, 3)).astype(np.float32)
    scan = Scan(data, np.diag([-1.5, -1.5, 8, 1.0]))
    return prepare(scan, SETTINGS, label=(data > 1).astype(np.uint8) if labelled else None)


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
    path.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        result = cached(tmp_path, "key", make_case)
    assert "damaged cache entry" in caplog.text
    for case in (result, cached(tmp_path, "key", never)):
        np.testing.assert_array_equal(case.image, expected.image)
        np.testing.assert_array_equal(case.label, expected.label)


def test_no_folder_no_cache() -> None:
    assert cached(None, "key", make_case).image.shape == (3, 16, 16)


def test_key_depends_on_content_and_context_not_on_names(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in "abc")
    first.write_bytes(b"scan")
    second.write_bytes(b"scan")
    other.write_bytes(b"Scan")
    key = case_key([first], {"a": 1})
    assert key == case_key([second], {"a": 1})
    others = (case_key([other], {"a": 1}), case_key([first], {"a": 2}), case_key([first, first], {"a": 1}))
    assert len({key, *others}) == 4
