"""What docs/how-to/dicom.md says that dcm2niix makes of the same objects."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_dicom import CINE, one_series, one_time, save, series_per_slice
from pydicom import Dataset

from coopseg.dicom.convert import import_dicom
from coopseg.errors import CoopsegError
from coopseg.scans.types import Scan

Convert = Callable[[list[Dataset]], list[nibabel.Nifti1Image]]


@pytest.fixture
def dcm2niix(tmp_path: Path) -> Convert:
    """Converts objects; skips where the program is not installed."""
    program = pytest.importorskip("dcm2niix").bin

    def convert(objects: list[Dataset]) -> list[nibabel.Nifti1Image]:
        folder, out = save(objects, tmp_path / "in"), tmp_path / "theirs"
        out.mkdir()
        subprocess.run([program, "-z", "y", "-o", out, folder], check=False, capture_output=True)
        return [nibabel.Nifti1Image.from_filename(path) for path in sorted(out.glob("*.nii.gz"))]

    return convert


@pytest.fixture
def scan() -> Scan:
    """Random values in 5 slices at 4 times, oblique."""
    generator = np.random.default_rng(0)
    affine, turn = np.eye(4), np.linalg.qr(generator.normal(size=(3, 3)))[0]
    affine[:3, :3] = turn * np.sign(np.linalg.det(turn)) @ np.diag([1.5, 1.25, 9])
    return Scan(generator.integers(0, 900, (24, 20, 5, 4)).astype(np.float32), affine)


@pytest.mark.parametrize("form", ["one_series", "by_delay", "by_temporal_position", "by_number", "one_time"])
def test_the_same_voxels_in_the_same_places(form: str, scan: Scan, dcm2niix: Convert, tmp_path: Path) -> None:
    (theirs,) = dcm2niix({**CINE, "one_time": one_time}[form](scan))
    (path,) = import_dicom(tmp_path / "in", tmp_path / "out")
    ours = nibabel.Nifti1Image.from_filename(path)
    first, second = (nibabel.as_closest_canonical(image) for image in (ours, theirs))
    assert np.allclose(first.affine, second.affine, atol=1e-4)
    assert np.array_equal(first.get_fdata(), second.get_fdata())
    if form != "one_time":
        assert (ours.header.get_zooms()[3], theirs.header.get_zooms()[3]) == (pytest.approx(0.04), 0)


def test_a_series_for_each_slice(scan: Scan, dcm2niix: Convert, tmp_path: Path) -> None:
    theirs = dcm2niix(series_per_slice(scan))
    assert [image.shape for image in theirs] == [(24, 20, 1, 4)] * 5
    assert {float(image.header.get_zooms()[2]) for image in theirs} == {3.0}
    (path,) = import_dicom(tmp_path / "in", tmp_path / "out")
    assert nibabel.Nifti1Image.from_filename(path).shape == (24, 20, 5, 4)


def test_what_is_missing(scan: Scan, dcm2niix: Convert, tmp_path: Path) -> None:
    objects = one_series(scan)
    gap = list(objects[8].ImagePositionPatient)
    (theirs,) = dcm2niix([data for data in objects if list(data.ImagePositionPatient) != gap])
    assert theirs.shape == (24, 20, 4, 4)
    assert theirs.header.get_zooms()[2] == pytest.approx(9)
    with pytest.raises(CoopsegError, match=r"lies 18\.00 mm from"):
        import_dicom(tmp_path / "in", tmp_path / "out")
