"""Each form of DICOM gives the scan that it was made from, whatever the files are called."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_dicom import (
    CINE,
    INTERVAL,
    SORTED_BY,
    STEP,
    VOLUMES,
    one_series,
    one_time,
    save,
    series_per_slice,
    where,
)

import coopseg
from coopseg.dicom.convert import import_dicom, open_dicom
from coopseg.dicom.pixels import read_stack
from coopseg.scans.nifti import read_image
from coopseg.scans.types import Scan


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Scan]:
    """Made-up 4-D scans of three sites, one of them oblique."""
    folder = coopseg.write_phantom(tmp_path_factory.mktemp("phantom"), patients=3, size=48)["mnms"]
    found = [read_image(path) for path in sorted(folder.rglob("*_sa.nii.gz"))]
    assert any(np.count_nonzero(scan.affine[:3, :3]) > 3 for scan in found)
    return found


def canonical(data: np.ndarray, affine: np.ndarray) -> nibabel.Nifti1Image:
    found: nibabel.Nifti1Image = nibabel.as_closest_canonical(nibabel.Nifti1Image(data, affine))
    return found


def assert_same(found: Scan | nibabel.Nifti1Image, wanted: Scan) -> None:
    """The same voxels in the same places, whichever way the axes run."""
    if isinstance(found, Scan):
        found = nibabel.Nifti1Image(found.data, found.affine)
    ours = nibabel.as_closest_canonical(found)
    theirs = canonical(wanted.data, wanted.affine)
    assert np.allclose(ours.affine, theirs.affine, atol=1e-4)
    assert np.array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("form", CINE)
def test_cine(form: str, number: int, scans: list[Scan], tmp_path: Path) -> None:
    objects = CINE[form](scans[number])
    (stack,) = open_dicom(save(objects, tmp_path, seed=number)).stacks
    assert_same(read_stack(stack), scans[number])
    assert stack.step == pytest.approx(STEP)
    assert stack.sorted_by == SORTED_BY.get(form, "TriggerTime")
    assert stack.notes == ()
    assert np.linalg.det(stack.affine) > 0
    origin = stack.origin
    assert (origin.patient, origin.height, origin.weight) == ("P1", 1.7, 65)
    assert origin.study == objects[0].StudyInstanceUID
    interval = {"enhanced": INTERVAL, "enhanced_per_slice": INTERVAL, "by_number": STEP * 3}.get(form)
    assert (origin.interval, origin.heart_rate) == (interval, interval and 60000 / interval)
    assert {(s.sop, s.frame or 1) for times in origin.sources for s in times} == {
        (data.SOPInstanceUID, frame)
        for data in objects
        for frame in range(1, int(data.get("NumberOfFrames", 1)) + 1)
    }


@pytest.mark.parametrize("form", VOLUMES)
def test_one_time(form: str, scans: list[Scan], tmp_path: Path) -> None:
    (stack,) = open_dicom(save(VOLUMES[form](scans[2]), tmp_path)).stacks
    assert_same(read_stack(stack), scans[2].frame(0))
    assert (stack.step, stack.sorted_by) == (0, "")
    assert stack.origin.modality == ("CT" if form == "ct" else "MR")
    places = [where(scans[2], z)[0] for z in range(scans[2].data.shape[2])]
    wanted = [f"image {places.index([round(x, 9) for x in place]) + 1}" for place in stack.origin.positions]
    assert list(stack.origin.slices) == wanted


def test_slices_that_nothing_tells_apart_have_no_name(scans: list[Scan], tmp_path: Path) -> None:
    (stack,) = open_dicom(save(one_series(scans[0]), tmp_path)).stacks  # numbers count times alone
    assert stack.origin.slices == ()


def test_the_origin_names_the_image_of_every_slice_and_time(scans: list[Scan], tmp_path: Path) -> None:
    objects = {data.SOPInstanceUID: data for data in series_per_slice(scans[0])}
    (stack,) = open_dicom(save(list(objects.values()), tmp_path)).stacks
    scan = read_stack(stack)
    for z, t in np.ndindex(scan.data.shape[2:]):
        source = objects[stack.origin.sources[z][t].sop]
        assert np.array_equal(scan.data[:, :, z, t], source.pixel_array.T * 0.5 - 10)
        place = scan.affine @ [0, 0, z, 1] * [-1, -1, 1, 1]
        assert np.allclose(place[:3], np.array(source.ImagePositionPatient, float))
        assert np.allclose(stack.origin.positions[z], np.array(source.ImagePositionPatient, float))
    assert len(stack.origin.series) == scan.data.shape[2]


def test_the_files_that_are_written(scans: list[Scan], tmp_path: Path) -> None:
    (path,) = import_dicom(save(series_per_slice(scans[1]), tmp_path / "in"), tmp_path / "out")
    assert path == tmp_path / "out" / "P1.nii.gz"
    assert_same(read_image(path), scans[1])
    header = nibabel.Nifti1Image.from_filename(path).header
    assert header.get_xyzt_units() == ("mm", "sec")
    assert header.get_zooms()[3] == pytest.approx(STEP / 1000)
    assert "research software, not a medical device" in bytes(header["descrip"]).decode()


def test_a_pixel_has_its_own_slope(scans: list[Scan], tmp_path: Path) -> None:
    objects = one_series(scans[0])
    for number, data in enumerate(objects):
        data.RescaleSlope = str(2 ** (number % 3))
        data.RescaleIntercept = str(-number)
    (stack,) = open_dicom(save(objects, tmp_path)).stacks
    by_uid = {data.SOPInstanceUID: data for data in objects}
    scan = read_stack(stack)
    for z, t in np.ndindex(scan.data.shape[2:]):
        data = by_uid[stack.origin.sources[z][t].sop]
        expected = data.pixel_array.T * float(data.RescaleSlope) + float(data.RescaleIntercept)
        assert np.array_equal(scan.data[:, :, z, t], expected)


def test_several_patients_and_studies_are_kept_apart(scans: list[Scan], tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    save(series_per_slice(scans[0], patient="A/1"), folder / "x")
    save(one_series(scans[1], patient="B"), folder / "x" / "y")
    later = one_series(scans[2], patient="B", study="2")
    for data in later:
        data.StudyDate = "20240301"
    save(later, folder)
    found = open_dicom(folder)
    assert [stack.name for stack in found.stacks] == ["A-1", "B_20240131", "B_20240301"]
    assert (found.refused, found.passed_over) == ((), ())
    for stack, scan in zip(found.stacks, scans, strict=True):
        assert_same(read_stack(stack), scan)


def test_two_series_of_a_study_are_two_scans(scans: list[Scan], tmp_path: Path) -> None:
    late = one_time(scans[0])
    for data in late:
        data.SeriesNumber, data.SeriesDescription, data.SeriesInstanceUID = 31, "late", "1.2.3"
        data.SOPInstanceUID += ".1"
    (save(late, tmp_path / "late"), save(one_series(scans[0]), tmp_path / "cine"))
    assert [stack.name for stack in open_dicom(tmp_path).stacks] == ["P1_series31", "P1_series5"]
