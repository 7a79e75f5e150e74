"""Voxels of one image."""

from __future__ import annotations

import numpy as np
import pytest

from coopseg.cases.intensity import scale_to_percentiles
from coopseg.checks.rules import CLIP
from coopseg.checks.voxels import check_voxels, fingerprint

VOLUME = np.random.default_rng(0).random((6, 5, 4), np.float32)


def faults(volume: np.ndarray, *, axis: int = 2, normalised: bool = False) -> list[tuple[str, str]]:
    found = check_voxels(volume, axis=axis, normalised=normalised)
    return [(fault.rule, fault.found) for fault in found]


def test_nothing_is_wrong() -> None:
    assert faults(VOLUME) == faults(VOLUME, normalised=True) == faults(VOLUME * 4000 - 1000) == []


@pytest.mark.parametrize("lit", [1, 2, 3, 4, 10])
def test_blank_is_what_preparation_makes_blank(lit: int) -> None:
    volume = np.zeros((6, 5, 4), np.float32)
    volume.flat[:lit] = 1
    blank = not scale_to_percentiles(volume, CLIP)[0].any()
    assert ("constant" in dict(faults(volume))) == blank
    assert "constant" not in dict(faults(volume, normalised=True))  # which is not clipped


def test_one_value() -> None:
    for normalised in (False, True):
        assert faults(np.ones_like(VOLUME), normalised=normalised) == [("constant", "every voxel is 1")]


def test_blank_slices_are_counted_along_their_axis() -> None:
    volume = VOLUME.copy()
    volume[0] = volume[4] = 0.5
    assert faults(volume, axis=0) == [("constant-slice", "2 of 6 slices, counted from 0: 0, 4")]
    assert faults(volume) == []


def test_normalised_means_0_to_1() -> None:
    assert faults(VOLUME * 1.5, normalised=True)[0][0] == "not-normalised"
    assert faults(VOLUME - 0.5, normalised=True)[0][0] == "not-normalised"


def test_fingerprints() -> None:
    assert fingerprint(VOLUME) == fingerprint(np.asfortranarray(VOLUME)) == fingerprint(VOLUME.copy())
    other = VOLUME.copy()
    other[5, 4, 3] += 1e-6
    turned = np.ascontiguousarray(VOLUME.transpose(1, 0, 2))
    assert len({fingerprint(array) for array in (VOLUME, other, turned, VOLUME.reshape(5, 6, 4))}) == 4
    assert fingerprint(np.zeros_like(VOLUME)) == ""
