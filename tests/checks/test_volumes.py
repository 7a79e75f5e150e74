"""Files that hold several volumes, and files that several volumes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from coopseg.checks.volumes import examine, group_by_file
from coopseg.scans.types import Labels, ScanRef

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
