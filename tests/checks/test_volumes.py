"""Files that hold several volumes, and files that several volumes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from coopseg.cases.steps import scale_to_percentiles
from coopseg.checks.rules import CLIP
from coopseg.checks.volumes import (
    background_value,
    check_geometry,
    check_values,
    check_voxels,
    examine,
    fingerprint,
    group_by_file,
)
from coopseg.scans.geometry import find_slice_axis
from coopseg.scans.types import Labels, ScanRef

SHAPE = (12, 10, 4)


def rules(affine: np.ndarray) -> list[str]:
    return [fault.rule for fault in check_geometry(affine, SHAPE)]


def box(*spacing: float) -> np.ndarray:
    return np.diag([*spacing, 1.0])


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((1.5, 1.5, 8), []),
        ((0.5, 0.5, 0.5), []),
        ((0.3, 0.3, 20), []),
        ((4, 4, 4), []),
        ((0.25, 1, 5), ["spacing-unusual"]),
        ((1, 4.5, 5), ["spacing-unusual"]),
        ((1, 1, 21), ["spacing-unusual"]),
        ((0.1, 0.1, 50), ["spacing-unusual"]),
        ((1, 0.09, 5), ["spacing-extreme"]),
        ((10.5, 1, 12), ["spacing-extreme"]),
        ((0.4, 0.4, 0.4), ["spacing-extreme"]),
        ((1, 1, 51), ["spacing-extreme"]),
    ],
)
def test_spacing_of_pixels_and_slices(spacing: tuple[float, ...], expected: list[str]) -> None:
    assert rules(box(*spacing)) == expected


def test_spacing_does_not_depend_on_direction() -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", [20, -40, 70], degrees=True).as_matrix() @ np.diag([1, 1, 60])
    assert rules(turned) == ["spacing-extreme"]
    turned[:3, 2] /= 10
    assert rules(turned) == []


def test_slices_along_another_axis() -> None:
    assert find_slice_axis(box(8, 1, 1), SHAPE) == 0
    assert rules(box(8, 1, 1)) == rules(box(1, 8, 1)) == ["orientation"]


def test_the_identity_was_never_recorded() -> None:
    assert rules(np.eye(4)) == ["orientation"]
    moved = np.eye(4)
    moved[0, 3] = -90
    assert rules(moved) == rules(box(-1, -1, 1)) == []


@pytest.mark.parametrize(("degrees", "expected"), [(0.05, []), (0.06, ["shear"]), (5, ["shear"])])
def test_shear(degrees: float, expected: list[str]) -> None:
    """The cosine of 90 degrees less 0.0573 is 1e-3."""
    affine = box(1.5, 1.5, 8)
    affine[0, 2] = 8 * np.tan(np.radians(degrees))
    faults = list(check_geometry(affine, SHAPE))
    assert [fault.rule for fault in faults] == expected
    assert all(f"{90 - degrees:.2f} degrees" in fault.found for fault in faults)


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


PAIR = Labels(("background", "LV", "RV"), (0, 1, 3))
UNNAMED = Labels(("background",), (0,))


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ({0, 1, 3}, PAIR, []),
        ({1}, PAIR, []),
        ({0}, PAIR, [("label-empty", "every voxel is background (0)")]),
        ({5}, Labels(("background", "LV"), (5, 1)), [("label-empty", "every voxel is background (5)")]),
        ({0, 1, 2, 7}, PAIR, [("label-unnamed", "no name for 2, 7 (known: 0 background, 1 LV, 3 RV)")]),
        ({0, 1, 2}, UNNAMED, []),
        ({0, -1, 2}, UNNAMED, [("label-unnamed", "no name for -1")]),
        (set(range(256)), UNNAMED, []),
        (set(range(300)), UNNAMED, [("label-values", "300 values, as of an image")]),
    ],
)
def test_values(values: set[int], labels: Labels, expected: list[tuple[str, str]]) -> None:
    assert [(fault.rule, fault.found) for fault in check_values(values, labels)] == expected


def test_the_background_need_not_be_0() -> None:
    assert background_value(Labels(("background", "LV"), (5, 1))) == 5


HEART = Labels(("background", "LV", "MYO", "RV"), (0, 1, 2, 3))


def cine(
    root: Path, save: Callable[..., Path], volume: Callable[..., np.ndarray], drawn: np.ndarray
) -> list[ScanRef]:
    """Two frames of one file, as in M&Ms; the second has no RV."""
    image = save(root / "x.nii.gz", np.stack([volume(0), volume(1)], axis=-1))
    label = save(root / "x_gt.nii.gz", np.stack([drawn, drawn % 3], axis=-1))
    return [ScanRef("x", image, label, phase, frame) for frame, phase in enumerate(("ED", "ES"))]


def test_frames_are_told_apart(
    tmp_path: Path, save: Callable[..., Path], volume: Callable[..., np.ndarray], drawn: np.ndarray
) -> None:
    refs = cine(tmp_path, save, volume, drawn)
    findings, volumes = examine(refs, HEART, tmp_path)
    assert findings == []
    assert [item.values for item in volumes] == [{0, 1, 2, 3}, {0, 1, 2}]  # type: ignore[comparison-overlap]
    assert volumes[0].fingerprint != volumes[1].fingerprint
    assert [item.ref for item in volumes] == refs


def test_a_frame_that_is_not_there_hides_no_other(
    tmp_path: Path, save: Callable[..., Path], volume: Callable[..., np.ndarray], drawn: np.ndarray
) -> None:
    refs = cine(tmp_path, save, volume, drawn)
    findings, volumes = examine([replace(refs[0], frame=7), refs[1]], HEART, tmp_path)
    assert [(f.rule, f.case, f.file) for f in findings] == [
        ("dimensions", "x_ED", "x.nii.gz"), ("dimensions", "x_ED", "x_gt.nii.gz"),
    ]  # fmt: skip
    assert [item.values for item in volumes] == [None, {0, 1, 2}]


def test_a_file_of_two_volumes_is_named_once(
    tmp_path: Path, save: Callable[..., Path], volume: Callable[..., np.ndarray], drawn: np.ndarray
) -> None:
    refs = cine(tmp_path, save, volume, drawn)
    refs[0].image.write_bytes(refs[0].image.read_bytes()[:-50])
    findings, volumes = examine(refs, HEART, tmp_path)
    assert [(f.rule, f.case) for f in findings] == [("truncated", "x")]
    assert [(item.fingerprint, item.direction is None) for item in volumes] == [("", False)] * 2


def test_groups_hold_every_item_once_and_every_file_in_one_group() -> None:
    a, b, c, shared = (Path(name) for name in "abcs")
    items = [ScanRef("a", a, shared, "1"), ScanRef("b", b, None), ScanRef("c", c, shared), ScanRef("b2", b)]
    groups = group_by_file(items)
    assert [[ref.patient for ref in group] for group in groups] == [["a", "c"], ["b", "b2"]]
