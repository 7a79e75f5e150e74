"""What cannot be a scan is named: refused with what to do, or passed over with the reason."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_dicom import (
    CINE,
    an_object,
    as_file,
    by_number,
    classic,
    ct,
    enhanced,
    in_series,
    one_series,
    one_time,
    save,
    series_per_slice,
    uid,
    with_pixels,
)  # fmt: skip
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1, RLELossless, SecondaryCaptureImageStorage, SegmentationStorage

from coopseg.dicom.convert import import_dicom, open_dicom
from coopseg.dicom.find import find_objects
from coopseg.dicom.stack import stack_objects
from coopseg.errors import CoopsegError, PartlyDone
from coopseg.scans.types import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    """Random values in 5 slices at 4 times, not square, oblique."""
    generator = np.random.default_rng(0)
    affine = np.eye(4)
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    affine[:3, :3] = turn * np.sign(np.linalg.det(turn)) @ np.diag([1.5, 1.25, 9])
    affine[:3, 3] = (20, -30, 40)
    return Scan(generator.integers(0, 900, (12, 10, 5, 4)).astype(np.float32), affine)


def at(objects: list[Dataset], z: int) -> list[Dataset]:
    """Those of the slice number z."""
    places = list(dict.fromkeys(tuple(data.ImagePositionPatient) for data in objects))
    return [data for data in objects if tuple(data.ImagePositionPatient) == places[z]]


def without_a_slice(objects: list[Dataset]) -> None:
    for data in at(objects, 2):
        objects.remove(data)


def without_an_image(objects: list[Dataset]) -> None:
    objects.remove(at(objects, 3)[1])


def with_a_copy(objects: list[Dataset]) -> None:
    objects.append(objects[7])


def with_a_second(objects: list[Dataset]) -> None:
    again = copy.deepcopy(objects[7])
    again.SOPInstanceUID = uid("again")
    objects.append(again)


def with_another_size(objects: list[Dataset]) -> None:
    for data in at(objects, 1):
        with_pixels(data, np.zeros((1, 14, 10)))


def with_another_spacing(objects: list[Dataset]) -> None:
    for data in at(objects, 4):
        data.PixelSpacing = [1.4, 1.4]


def moved_along(objects: list[Dataset]) -> None:
    for data in at(objects, 4):
        along, down = np.reshape(np.array(data.ImageOrientationPatient, float), (2, 3))
        place = np.array(data.ImagePositionPatient, float) + 2 * np.cross(along, down)
        data.ImagePositionPatient = [round(float(value), 6) for value in place]


def moved_aside(objects: list[Dataset]) -> None:
    for data in at(objects, 2):
        along = np.array(data.ImageOrientationPatient[:3], float)
        place = np.array(data.ImagePositionPatient, float) + 2 * along
        data.ImagePositionPatient = [round(float(value), 6) for value in place]


def turned(objects: list[Dataset]) -> None:
    for data in at(objects, 2):
        data.ImageOrientationPatient = [*data.ImageOrientationPatient[3:], *data.ImageOrientationPatient[:3]]


def without_pixels(objects: list[Dataset]) -> None:
    del objects[3].PixelData


def with_few_pixels(objects: list[Dataset]) -> None:
    objects[3].PixelData = objects[3].PixelData[:-20]


def compressed(objects: list[Dataset]) -> None:
    objects[3].file_meta.TransferSyntaxUID = JPEGLosslessSV1
    objects[3].PixelData = encapsulate([bytes(64)])
    objects[3]["PixelData"].VR = "OB"


def in_colour(objects: list[Dataset]) -> None:
    objects[3].SamplesPerPixel, objects[3].PhotometricInterpretation = 3, "RGB"
    objects[3].PlanarConfiguration = 0
    objects[3].PixelData *= 3


def nowhere(objects: list[Dataset]) -> None:
    del objects[3].ImagePositionPatient


def without_slope(objects: list[Dataset]) -> None:
    objects[3].RescaleSlope = "0"


REFUSED: dict[str, tuple[Callable[[list[Dataset]], None], str, str]] = {
    "gap": (without_a_slice, "lies 18.00 mm from", "so that 1 may be missing; export all slices"),
    "missing": (without_an_image, "3 images at the place of this slice", "export all times of all slices"),
    "copy": (with_a_copy, "is a copy of", "remove one of them"),
    "twice": (with_a_second, "lies at the same place and time as", "remove one of them"),
    "size": (with_another_size, "x 10 pixels in series", "export a stack of one size"),
    "spacing": (with_another_spacing, "mm in series", "export a stack with one pixel spacing"),
    "uneven": (moved_along, "lies 11.00 mm from", "export an even stack"),
    "aside": (moved_aside, "beside the line of the other slices", "export slices that lie behind each other"),
    "no pixels": (without_pixels, "holds no pixel data", "export it with its images"),
    "truncated": (with_few_pixels, "bytes of pixel data", "copy it again"),
    "compressed": (compressed, "compressed as JPEG Lossless", "pip install pylibjpeg pylibjpeg-libjpeg"),
    "colour": (in_colour, "a colour image", "which are grey"),
    "nowhere": (nowhere, "does not say where it lies", "export it again with these"),
    "slope": (without_slope, "its RescaleSlope is 0 or not a number", "export it again"),
}  # fmt: skip


@pytest.mark.parametrize("form", [series_per_slice, one_series])
@pytest.mark.parametrize("fault", REFUSED)
def test_refused(form: Callable[..., list[Dataset]], fault: str, scan: Scan, tmp_path: Path) -> None:
    """One line says what was found, in which file, and what to do; another patient is imported."""
    spoil, said, do = REFUSED[fault]
    objects = form(scan)
    spoil(objects)
    save(objects, tmp_path / "in")
    save(one_series(scan, patient="sound"), tmp_path / "in" / "sound")
    found = open_dicom(tmp_path / "in")
    (error,) = found.refused
    assert said in str(error)
    assert do in str(error)
    assert str(error).endswith(" (patient 'P1', study of 20240131)")
    assert Path(str(error).partition(": ")[0].partition(" (")[0]).is_file()
    assert len(str(error).splitlines()) == 1
    assert [stack.name for stack in found.stacks] == ["sound"]
    with pytest.raises(PartlyDone, match=r"1 of 2 scans failed.*import them into another --out"):
        import_dicom(tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["import.json", "sound.nii.gz"]


def test_two_orientations_in_a_series_are_refused(scan: Scan, tmp_path: Path) -> None:
    objects = one_series(scan)
    turned(objects)
    (error,) = open_dicom(save(objects, tmp_path)).refused
    assert "another orientation than" in str(error)
    assert "in series 5 'cine_sa', which has 2; export each orientation as a series of its own" in str(error)
    assert str(error).endswith(" (patient 'P1', study of 20240131)")


def test_a_time_that_is_missing_from_every_slice_is_noted(scan: Scan, tmp_path: Path) -> None:
    objects = [data for data in by_number(scan) if data.InstanceNumber % 4 != 2]
    (stack,) = open_dicom(save(objects, tmp_path)).stacks
    assert stack.notes == ("CardiacNumberOfImages is 4, but 3 times were found",)


def test_two_images_of_one_place_are_no_times_in_ct(scan: Scan, tmp_path: Path) -> None:
    again = ct(scan)
    for data in again:
        data.SOPInstanceUID += ".1"
        data.InstanceNumber += 100
    with pytest.raises(CoopsegError, match="lies at the same place and time as"):
        import_dicom(save([*ct(scan), *again], tmp_path / "in"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def turned_view(scan: Scan, description: str) -> list[Dataset]:
    """Four times of one slice across the others."""
    objects = [in_series(classic(scan, 0, t), 40, description) for t in range(4)]
    for t, data in enumerate(objects):
        data.ImageOrientationPatient = [*np.array([0, 1, 0, 0, 0, -1.0])]
        data.TriggerTime, data.SOPInstanceUID = t * 40, uid("view", t)
    return objects


def passed_over() -> dict[str, tuple[Callable[[Scan], list[Dataset]], str]]:
    def kind(*words: str) -> Callable[[Scan], list[Dataset]]:
        def make(scan: Scan) -> list[Dataset]:
            objects = [in_series(data, 9, "x") for data in one_time(scan)]
            for data in objects:
                data.ImageType, data.SOPInstanceUID = list(words), data.SOPInstanceUID + ".2"
            return objects

        return make

    def segmentation(scan: Scan) -> list[Dataset]:
        data = in_series(an_object(SegmentationStorage, "seg"), 90, "AI")
        data.Modality = "SEG"
        return [data]

    def capture(scan: Scan) -> list[Dataset]:
        data = in_series(an_object(SecondaryCaptureImageStorage, "shot"), 91, "screen")
        data.Modality = "MR"
        return [with_pixels(data, np.zeros((1, 4, 4)))]

    def scout(scan: Scan) -> list[Dataset]:
        return [in_series(data, 1, "Localizer_3plane") for data in turned_view(scan, "")]

    return {
        "view": (lambda scan: turned_view(scan, "cine_4ch"), "one location only, as of a long-axis view"),
        "scout": (scout, "a localizer"),
        "localizer": (kind("ORIGINAL", "PRIMARY", "LOCALIZER"), "a localizer"),
        "derived": (kind("DERIVED", "PRIMARY", "M"), "derived from other images, by its ImageType"),
        "secondary": (kind("ORIGINAL", "SECONDARY"), "derived from other images, by its ImageType"),
        "phase": (kind("ORIGINAL", "PRIMARY", "P", "ND"), "not the magnitude, by its ImageType"),
        "segmentation": (segmentation, "modality SEG, not MR or CT"),
        "capture": (capture, "a secondary capture"),
    }


@pytest.mark.parametrize("what", passed_over())
def test_passed_over(what: str, scan: Scan, tmp_path: Path) -> None:
    make, reason = passed_over()[what]
    others = make(scan)
    save(series_per_slice(scan), tmp_path)
    save(others, tmp_path / "other")
    found = open_dicom(tmp_path)
    assert [stack.name for stack in found.stacks] == ["P1"]
    assert found.refused == ()
    (entry,) = found.passed_over
    assert entry.reason.startswith(f"{reason}; series {others[0].SeriesNumber} '")
    assert entry.reason.endswith(f", {len(others)} file{'s' if len(others) > 1 else ''}")
    assert (tmp_path / "other") in entry.path.parents


def test_a_few_slices_of_another_view(scan: Scan, tmp_path: Path) -> None:
    """A long-axis view of three locations is no stack beside one of five; alone it is a scan."""
    turn = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    view = [
        in_series(data, 40, "cine_4ch") for data in one_series(Scan(scan.data[:, :, :3], turn @ scan.affine))
    ]
    for data in view:
        data.SOPInstanceUID += ".1"
    assert [stack.name for stack in open_dicom(save(view, tmp_path / "view")).stacks] == ["P1"]
    save(series_per_slice(scan), tmp_path)
    found = open_dicom(tmp_path)
    assert [stack.shape for stack in found.stacks] == [(12, 10, 5, 4)]
    (entry,) = found.passed_over
    assert entry.reason == ("another orientation than the stack of its study; series 40 'cine_4ch', 12 files")


def test_frames_that_are_no_magnitude_are_passed_over(scan: Scan, tmp_path: Path) -> None:
    """An Enhanced object may hold the magnitude and the phase of every time."""
    (data,) = enhanced(scan)
    for group in data.PerFrameFunctionalGroupsSequence:
        item = Dataset()
        item.FrameType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
        group.MRImageFrameTypeSequence = [item]
    for group in copy.deepcopy(list(data.PerFrameFunctionalGroupsSequence)):
        group.MRImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "P", "NONE"]
        data.PerFrameFunctionalGroupsSequence.append(group)
    data.NumberOfFrames = 40
    data.PixelData *= 2
    (tmp_path / "x").write_bytes(as_file(data))
    found = open_dicom(tmp_path)
    (stack,) = found.stacks
    assert stack.shape == scan.data.shape
    assert max(source.frame or 0 for times in stack.origin.sources for source in times) == 20
    assert [entry.reason.partition(";")[0] for entry in found.passed_over] == [
        "not the magnitude, by its ImageType"
    ]


def test_pixels_that_cannot_be_decoded(scan: Scan, tmp_path: Path) -> None:
    """Which shows only when they are read: the other patient's are."""
    objects = one_series(scan)
    objects[3].file_meta.TransferSyntaxUID = RLELossless
    objects[3].PixelData = encapsulate([bytes(64)])
    objects[3]["PixelData"].VR = "OB"
    save(objects, tmp_path / "in")
    only = tmp_path / "only"
    (tmp_path / "in").rename(only)
    with pytest.raises(CoopsegError, match=r"cannot be read as DICOM \(.*\); export it again"):
        import_dicom(only, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    save(one_series(scan, patient="sound"), only / "sound")
    with pytest.raises(PartlyDone) as failed:
        import_dicom(only, tmp_path / "out")
    (error,) = failed.value.failed
    assert Path(str(error).partition(": ")[0]).is_file()
    assert [path.name for path in failed.value.done] == ["sound.nii.gz"]


def test_nothing_but_what_is_passed_over(scan: Scan, tmp_path: Path) -> None:
    save(turned_view(scan, "cine_4ch"), tmp_path)
    with pytest.raises(CoopsegError, match=r"no scan found \(1 passed over: one location only"):
        open_dicom(tmp_path)


@pytest.mark.parametrize("form", CINE)
def test_the_order_of_files_does_not_matter(form: str, scan: Scan, tmp_path: Path) -> None:
    objects = [*CINE[form](scan), *one_time(scan, patient="P2"), *turned_view(scan, "cine_4ch")]
    found = find_objects(save(objects, tmp_path)).objects
    expected = stack_objects(found)
    assert [stack.name for stack in expected.stacks] == ["P1", "P2"]

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.permutations(found))
    def check(shuffled: list[object]) -> None:
        again = stack_objects(shuffled)  # type: ignore[arg-type]
        assert [stack.origin for stack in again.stacks] == [stack.origin for stack in expected.stacks]
        assert [stack.name for stack in again.stacks] == [stack.name for stack in expected.stacks]
        assert [stack.affine.tolist() for stack in again.stacks] == [
            stack.affine.tolist() for stack in expected.stacks
        ]
        assert (again.passed_over, again.refused) == (expected.passed_over, expected.refused)

    check()


def test_a_multi_frame_object_with_fewer_places_than_frames(scan: Scan, tmp_path: Path) -> None:
    (data,) = enhanced(scan)
    del data.PerFrameFunctionalGroupsSequence[-1]
    (tmp_path / "x").write_bytes(as_file(data))
    (error,) = open_dicom(tmp_path).refused
    assert "says it has 20 frames and where 19 of them lie" in str(error)


@pytest.mark.parametrize("form", [one_time, enhanced])
def test_a_file_that_ends_early_is_never_read(
    form: Callable[..., list[Dataset]], scan: Scan, tmp_path: Path
) -> None:
    content, said = as_file(form(scan)[-1]), list[str]()
    ends = range(140, len(content), len(content) // 60)
    for end in ends:
        (tmp_path / "x").write_bytes(content[:end])
        found = open_dicom(tmp_path)
        assert found.stacks == ()
        said += [str(error) for error in found.refused]
    assert len(said) == len(ends)
    assert [line for line in said if str(tmp_path / "x") not in line] == []
