"""From an item to its volume and label map."""

from pathlib import Path

import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.nifti import write_image
from coopseg.scans.types import Scan, ScanRef

AFFINE = np.diag([-1.5, -1.5, 8, 1.0])


def label_of(item: ScanRef) -> Scan:
    """The label of an item that has one."""
    found = load_label(item)
    assert found is not None
    return found


def ref(
    tmp_path: Path,
    *,
    image: tuple[int, ...] = (6, 5, 4, 3),
    label: tuple[int, ...] = (6, 5, 4, 3),
    frame: int | None = 1,
    affine: np.ndarray = AFFINE,
) -> ScanRef:
    paths = tmp_path / "x.nii.gz", tmp_path / "x_gt.nii.gz"
    write_image(paths[0], np.arange(np.prod(image)).reshape(image), affine=AFFINE)
    write_image(paths[1], np.arange(np.prod(label)).reshape(label), affine=affine, dtype=np.int16)
    return ScanRef("x", *paths, "ED", frame)


def test_the_right_frame_of_image_and_label(tmp_path: Path) -> None:
    item = ref(tmp_path)
    expected = np.arange(360).reshape(6, 5, 4, 3)[..., 1]
    np.testing.assert_array_equal(load_scan(item).data, expected)
    np.testing.assert_array_equal(label_of(item).data, expected)


def test_three_dimensions_without_a_frame(tmp_path: Path) -> None:
    item = ref(tmp_path, image=(6, 5, 4), label=(6, 5, 4), frame=None)
    assert load_scan(item).data.shape == label_of(item).data.shape == (6, 5, 4)


def test_no_label_is_none(tmp_path: Path) -> None:
    assert load_label(ScanRef("x", tmp_path / "x.nii.gz")) is None


@pytest.mark.parametrize("frame", [3, 30])
def test_a_frame_beyond_the_file(tmp_path: Path, frame: int) -> None:
    item = ref(tmp_path, frame=frame)
    for load in (load_scan, load_label):
        with pytest.raises(
            CoopsegError, match=rf"frame {frame} \(from 0\) of x_ED is not in a file of 3 frames"
        ):
            load(item)


def test_a_4d_file_needs_a_frame(tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match="a 4-D file of 3 frames"):
        load_scan(ref(tmp_path, frame=None))


def test_a_frame_of_a_3d_file(tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match="frame 1 of x_ED is wanted of a 3-D file"):
        load_scan(ref(tmp_path, image=(6, 5, 4)))


def test_label_of_another_shape_names_both_files(tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match=r"x_gt\.nii\.gz: shape \(6, 5, 3\).*x\.nii\.gz has \(6, 5, 4\)"):
        load_label(ref(tmp_path, label=(6, 5, 3, 3)))


def test_label_in_another_place_names_both_files(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 0.5
    assert load_label(ref(tmp_path, affine=moved)) is not None  # a third of a voxel
    with pytest.raises(
        CoopsegError, match=r"x_gt\.nii\.gz: the label lies .* mm away from the image .*x\.nii\.gz"
    ):
        load_label(ref(tmp_path, affine=np.diag([1.5, -1.5, 8, 1])))
