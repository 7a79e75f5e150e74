"""SEG and SR of the patient's own study: opened by highdicom, checked by dciodvfy where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_dicom import CINE, STEP, VOLUMES, save

import coopseg
from coopseg.dicom.convert import open_dicom
from coopseg.dicom.objects import Value, write_objects, write_report, write_segmentations
from coopseg.dicom.types import Stack
from coopseg.errors import CoopsegError
from coopseg.scans.nifti import read_image
from coopseg.scans.types import Scan

NAMES = ("background", "RV", "MYO", "LV", "left atrium")
MEASURES: dict[str, Value] = {
    "lv_edv_ml": 150.25, "lv_esv_ml": 60.0, "lv_sv_ml": 90.25, "lv_ef_percent": 60.07, "rv_edv_ml": None,
    "lv_mass_g": 120.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    folder = coopseg.write_phantom(tmp_path_factory.mktemp("phantom"), patients=1, size=48)["mnms"]
    return read_image(next(folder.rglob("*_sa.nii.gz")))


def stacked(form: str, scan: Scan, folder: Path) -> Stack:
    (stack,) = open_dicom(save({**CINE, **VOLUMES}[form](scan), folder)).stacks
    return stack


def drawn(stack: Stack) -> np.ndarray:
    """Labels that differ in every slice and phase; the last class is in no slice of the first phase."""
    shape = stack.shape if len(stack.shape) == 4 else (*stack.shape, 1)
    labels = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    labels[:3, :2, 1, 1:] = 4
    return labels.reshape(stack.shape)


def check_by_dciodvfy(path: Path) -> None:
    if program := shutil.which("dciodvfy"):
        said = subprocess.run([program, path], capture_output=True, text=True, check=False).stderr
        assert not [line for line in said.splitlines() if line.startswith("Error")], said


@pytest.mark.parametrize("form", [*CINE, *VOLUMES])
def test_a_segmentation_lies_on_its_images(form: str, scan: Scan, tmp_path: Path) -> None:
    import highdicom

    stack = stacked(form, scan, tmp_path / "in")
    labels = drawn(stack)
    paths = write_segmentations(tmp_path, stack.origin, labels, stack.affine, NAMES, name="P1")
    times = labels.reshape(*labels.shape[:3], -1)
    assert len(paths) == times.shape[3]
    series = set()
    for time, path in enumerate(paths):
        found = highdicom.seg.segread(path)
        assert found.StudyInstanceUID == stack.origin.study
        assert found.PatientID == stack.origin.patient
        series.add(found.SeriesInstanceUID)
        assert "not a medical device" in found.SeriesDescription
        assert [each.SegmentLabel for each in found.SegmentSequence] == list(NAMES[1:])
        codes = [each.SegmentedPropertyTypeCodeSequence[0] for each in found.SegmentSequence]
        assert [code.CodeValue for code in codes[:3]] == ["53085002", "49848007", "87878005"]
        volume = found.get_volume(combine_segments=True)
        ours = nifti_like(volume.array, volume.affine)
        theirs = nifti_like(times[..., time].transpose(2, 1, 0), to_lps(stack.affine))
        for point, value in theirs.items():
            assert ours.get(point, 0) == value
        sops = {stack.origin.sources[z][time].sop for z in range(stack.shape[2])}
        referred = {
            str(image.ReferencedSOPInstanceUID)
            for series in found.ReferencedSeriesSequence
            for image in series.ReferencedInstanceSequence
        }
        assert referred == sops
        check_by_dciodvfy(path)
    assert len(series) == 1


def to_lps(affine: np.ndarray) -> np.ndarray:
    """Of (z, y, x) indices to DICOM's mm, from that of (x, y, z) to NIfTI's."""
    turned: np.ndarray = np.diag([-1.0, -1, 1, 1]) @ affine @ np.eye(4)[[2, 1, 0, 3]]
    return turned


def nifti_like(array: np.ndarray, affine: np.ndarray) -> dict[tuple[float, ...], int]:
    """The labelled voxels by their place in mm."""
    index = np.argwhere(array)
    places = index @ affine[:3, :3].T + affine[:3, 3]
    values = array[tuple(index.T)]
    return {tuple((place.round(1) + 0.0).tolist()): int(v) for place, v in zip(places, values, strict=True)}


def test_another_model_makes_another_series(scan: Scan, tmp_path: Path) -> None:
    import pydicom

    stack = stacked("one_time", scan, tmp_path / "in")
    series = set()
    for made_by in ("1234abcd FTN", "1234abcd FTN+STN", "1234abcd FTN mended", "99999999 FTN"):
        out = tmp_path / made_by
        for path in write_objects(out, stack, drawn(stack), NAMES, MEASURES, made_by=made_by):
            found = pydicom.dcmread(path)
            series.add(found.SeriesInstanceUID)
            assert made_by in found.SeriesDescription
            assert "not a medical device" in found.SeriesDescription
    assert len(series) == 8  # SEG and SR of each


def test_the_same_again_has_the_same_identifiers(scan: Scan, tmp_path: Path) -> None:
    stack = stacked("one_series", scan, tmp_path / "in")
    labels = drawn(stack)
    first, second = (
        [path.read_bytes() for path in write_segmentations(
            tmp_path / name, stack.origin, labels, stack.affine, NAMES, name="P1"
        )[:1]]
        for name in "ab"
    )  # fmt: skip
    import pydicom

    uids = [pydicom.dcmread(next((tmp_path / name).glob("*.dcm"))).SOPInstanceUID for name in "ab"]
    assert uids[0] == uids[1]
    assert len(first[0]) == len(second[0])


def test_a_report_holds_what_was_measured(scan: Scan, tmp_path: Path) -> None:
    import highdicom

    stack = stacked("series_per_slice", scan, tmp_path / "in")
    path = write_report(tmp_path / "P1_sr.dcm", stack.origin, MEASURES, name="P1")
    assert path
    found = highdicom.sr.srread(path)
    assert found.StudyInstanceUID == stack.origin.study
    content: Any = found.content
    groups = content.get_image_measurement_groups()
    values = {
        (group.finding_sites[0].value.value, measure.name.meaning): (measure.value, measure.unit.value)
        for group in groups
        for measure in group.get_measurements()
    }
    assert values["87878005", "Left ventricular ejection fraction by MR"] == (60.07, "%")
    assert values["87878005", "Left Ventricular ED Volume"] == (150.25, "ml")
    assert values["49848007", "Mass"] == (120.5, "g")
    assert len(values) == 5  # what is None is not there
    assert referred(path) == {source.sop for times in stack.origin.sources for source in times}
    research, comment = content[0].ContentSequence[-1].ContentSequence
    assert research.TextValue == "Research software, not a medical device"
    ends = stack.origin.slices[0], stack.origin.slices[-1]
    last = len(stack.origin.slices)
    assert {f"series {5 + number} cine_sa_{number + 1}" for number in (0, last - 1)} == set(ends)
    said = f"slices are counted by place: slice 1 is {ends[0]}, slice {last} is {ends[1]}"
    assert comment.TextValue == said
    check_by_dciodvfy(path)


def referred(path: Path) -> set[str]:
    """The images that are the evidence of a report."""
    import pydicom

    (study,) = pydicom.dcmread(path).CurrentRequestedProcedureEvidenceSequence
    return {
        str(image.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    }


def test_a_report_says_what_the_numbers_rest_on(scan: Scan, tmp_path: Path) -> None:
    """The phases and their times, the notes after them; read without highdicom."""
    import pydicom

    stack = stacked("one_series", scan, tmp_path / "in")
    phases = {"ed": "M\u00fcller, phase 1", "es": "M\u00fcller, phase 3", "phases_by": "LV volume"}
    notes = "ED: LV in 3 of 5 slices (2 to 4)", "phase 2: RV in 2 pieces"
    frames = {"ed": 0, "es": 2}
    path = write_report(tmp_path / "P1_sr.dcm", stack.origin, MEASURES | phases, notes, frames, name="P1")
    assert path
    *_, said = pydicom.dcmread(path).ContentSequence
    assert said.ConceptNameCodeSequence[0].CodeMeaning == "Qualitative Evaluations"
    texts = [(item.ConceptNameCodeSequence[0].CodeMeaning, item.TextValue) for item in said.ContentSequence]
    assert texts == [
        ("End diastole", f"phase 1 of {stack.shape[3]}, 0 ms after the R wave"),
        ("End Systole", f"phase 3 of {stack.shape[3]}, {2 * STEP:.0f} ms after the R wave"),
        ("End diastole and end systole found by", "the largest and the smallest LV volume"),
        ("Comment", "Research software, not a medical device"),
        *(("Comment", note) for note in notes),
    ]
    assert referred(path) == {times[phase].sop for times in stack.origin.sources for phase in (0, 2)}
    check_by_dciodvfy(path)
    other = write_report(tmp_path / "other_sr.dcm", stack.origin, MEASURES | phases, notes[:1], name="P1")
    assert other
    assert pydicom.dcmread(other).SOPInstanceUID != pydicom.dcmread(path).SOPInstanceUID


@pytest.mark.parametrize("form", ["by_number", "one_time"])
def test_a_report_names_the_segmentations_that_were_measured(form: str, scan: Scan, tmp_path: Path) -> None:
    """Of a cine those of ED and ES; nothing says when its images were taken."""
    import pydicom

    stack = stacked(form, scan, tmp_path / "in")
    phases = {"ed": 2, "es": 1} if form == "by_number" else {}
    *made, report = write_objects(tmp_path, stack, drawn(stack), NAMES, MEASURES, ("a note",), phases)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in made]
    *_, said = pydicom.dcmread(report).ContentSequence
    texts = [item.TextValue for item in said.ContentSequence]
    listed = f"{uids[2]} of ED and {uids[1]} of ES" if phases else uids[0]
    assert texts[-2:] == [f"measured in SEG {listed}", "a note"]
    assert texts[: len(phases)] == [f"phase {frame + 1} of 3" for frame in phases.values()]
    check_by_dciodvfy(report)


@pytest.mark.parametrize(
    ("letters", "name"), [("ISO_IR 100", "M\u00fcller^J\u00f6rg"), ("ISO_IR 192", "\u0160imi\u0107^\u5fc3")]
)
def test_a_name_keeps_its_letters(letters: str, name: str, scan: Scan, tmp_path: Path) -> None:
    import pydicom

    objects = VOLUMES["one_time"](scan)
    for data in objects:
        data.SpecificCharacterSet, data.PatientName = letters, name
    (stack,) = open_dicom(save(objects, tmp_path / "in")).stacks
    for path in write_objects(tmp_path / "out", stack, drawn(stack), NAMES, MEASURES):
        found = pydicom.dcmread(path)
        assert (found.SpecificCharacterSet, found.PatientName) == ("ISO_IR 192", name)
        check_by_dciodvfy(path)


def test_no_warning_quotes_a_name(
    scan: Scan, tmp_path: Path, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    objects = VOLUMES["one_time"](scan)
    for data in objects:
        data.PatientName = "SMITH"
    (stack,) = open_dicom(save(objects, tmp_path / "in")).stacks
    warnings.simplefilter("always")
    assert len(write_objects(tmp_path / "out", stack, drawn(stack), NAMES, MEASURES)) == 2
    assert "SMITH" not in " ".join([*(str(each.message) for each in recwarn), *capfd.readouterr()])


def test_nothing_measured_is_no_report(scan: Scan, tmp_path: Path) -> None:
    stack = stacked("one_series", scan, tmp_path / "in")
    assert write_report(tmp_path / "P1_sr.dcm", stack.origin, {"lv_edv_ml": None}, name="P1") is None
    assert not (tmp_path / "P1_sr.dcm").exists()


def test_headers_that_lack_something_are_named(scan: Scan, tmp_path: Path) -> None:
    objects = CINE["one_series"](scan)
    for data in objects:
        del data.FrameOfReferenceUID
    (stack,) = open_dicom(save(objects, tmp_path / "in")).stacks
    with pytest.raises(CoopsegError, match=r"no SEG or SR of P1 can be written \(.+\); to have them, export"):
        write_objects(tmp_path / "out", stack, drawn(stack), NAMES, {})
