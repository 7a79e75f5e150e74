"""Writes what was segmented as DICOM objects of the patient's own study: a SEG for each phase, an SR.

The codes are SNOMED CT's and LOINC's, as DICOM's context groups have them (PS3.16: CID 7150, 7151, 3468,
3469, 3833, 12305). A structure that no code is known for gets one of this package's own.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coopseg import __version__
from coopseg.dicom.places import Opener
from coopseg.dicom.types import NOTICE, Origin, Place, Source, Stack, undisturbed
from coopseg.errors import CoopsegError
from coopseg.scans.files import write_atomically
from coopseg.scans.labels import canonical_name
from coopseg.text import one_line

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from highdicom.sr import ContainerContentItem, MeasurementsAndQualitativeEvaluations
    from pydicom import Dataset
    from pydicom.sr.coding import Code

MAKER = "coopseg"
SERIES = 9000  # of the SEGs, and 9001 of the SR; scanners number theirs from 1
OWN = "99COOPSEG"  # a coding scheme of one's own begins with 99
LETTERS = "ISO_IR 192"  # UTF-8: names and notes may hold any
MAY_BE_EMPTY = (  # but have to be there; anonymising programs take them away
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
LV, RV, MYO = "LV", "RV", "MYO"
# (column of measures.csv, structure, name of the measure in pydicom's dictionary, its unit)
MEASURES = (
    ("lv_edv_ml", LV, "LN.LeftVentricularEDVolume", "ml"),
    ("lv_esv_ml", LV, "LN.LeftVentricularESVolume", "ml"),
    ("lv_sv_ml", LV, "SCT.StrokeVolume", "ml"),
    ("lv_ef_percent", LV, "LN.LeftVentricularEjectionFractionByMR", "%"),
    ("rv_edv_ml", RV, "LN.RightVentricularEDVolume", "ml"),
    ("rv_esv_ml", RV, "LN.RightVentricularESVolume", "ml"),
    ("rv_sv_ml", RV, "SCT.StrokeVolume", "ml"),
    ("rv_ef_percent", RV, "LN.RightVentricularEjectionFractionByMR", "%"),
    ("lv_mass_g", MYO, "SCT.MassQuantity", "g"),
)
FOUND_BY = {"LV volume": "the largest and the smallest LV volume"}
Value = float | str | None


def write_objects(
    folder: Path,
    stack: Stack,
    labels: np.ndarray,
    names: Sequence[str],
    measures: Mapping[str, Value],
    notes: Sequence[str] = (),
    phases: Mapping[str, int] | None = None,
    *,
    made_by: str = "",
) -> list[Path]:
    """Write NAME_seg.dcm, or one for each phase, and NAME_sr.dcm of a scan into `folder`; returns the paths.

    labels: see `write_segmentations`. measures, notes, phases: see `write_report`, which also gets a note of
    the segmentations that were measured.
    made_by: tells the series of one model, head and way of predicting from those of others, in a few letters.
    Raises CoopsegError if the headers of the scan do not allow it.
    """
    how = {"name": stack.name, "made_by": made_by}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote what headers hold, such as the patient's name
            paths = write_segmentations(folder, stack.origin, labels, stack.affine, names, **how)
            notes = [*_name_measured(paths, phases or {}), *notes]
            report = write_report(
                folder / f"{stack.name}_sr.dcm", stack.origin, measures, notes, phases, **how
            )
    except (CoopsegError, MemoryError):
        raise
    except Exception as error:  # highdicom raises all kinds for headers that lack something
        first = stack.origin.files[0]
        raise CoopsegError(
            f"{first}: no SEG or SR of {stack.name} can be written ({one_line(error)}); to have them, export "
            "the study again with all its attributes"
        ) from error
    return [*paths, report] if report else paths


def write_segmentations(
    folder: Path,
    origin: Origin,
    labels: np.ndarray,
    affine: np.ndarray,
    names: Sequence[str],
    *,
    name: str,
    made_by: str = "",
) -> list[Path]:
    """Write FOLDER/NAME_seg.dcm, or NAME_seg_01.dcm and so on for the phases of a cine; returns the paths.

    All are one series of the study that the scan was made from, and refer to its images. labels: (X, Y, Z) or
    (X, Y, Z, T) class indices into `names`, background first, in the grid of the scan, whose (4, 4) affine
    is in RAS+ mm. made_by: see `write_objects`. Raises CoopsegError if an image of the study has gone.
    """
    frames = labels[..., None] if labels.ndim == 3 else labels
    paths = []
    for time in range(frames.shape[3]):
        sources = [times[time] for times in origin.sources]
        mark = f"_{time + 1:02d}" if labels.ndim == 4 else ""
        phase = f"phase {time + 1} of {frames.shape[3]}" if labels.ndim == 4 else ""
        made = _segmentation(
            origin, sources, frames[..., time], affine, names, name=name, made_by=made_by,
            number=time + 1, phase=phase,
        )  # fmt: skip
        paths.append(_save(folder / f"{name}_seg{mark}.dcm", made))
    return paths


def _segmentation(
    origin: Origin,
    sources: Sequence[Source],
    labels: np.ndarray,
    affine: np.ndarray,
    names: Sequence[str],
    *,
    name: str,
    made_by: str,
    number: int,
    phase: str,
) -> Dataset:
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
    from highdicom.seg import Segmentation

    images = _headers(origin, sources)
    pixels = np.ascontiguousarray(labels.transpose(2, 1, 0), np.uint8)  # (slices, rows, columns)
    columns, rows, slices = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    where: dict[str, Any] = {}
    first = [image for image in images if image.SeriesInstanceUID == images[0].SeriesInstanceUID]
    if any(source.frame for source in sources):
        first = images[:1]  # there can be one multi-frame object only
    if len(first) < len(images) or any(source.frame for source in sources):
        where = {
            "pixel_measures": PixelMeasuresSequence([rows, columns], slices, slices),
            "plane_orientation": PlaneOrientationSequence("PATIENT", origin.orientation),
            "plane_positions": [PlanePositionSequence("PATIENT", place) for place in origin.positions],
        }
    return Segmentation(
        source_images=first,
        further_source_images=images[len(first) :] or None,
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[_describe(index, each) for index, each in enumerate(names) if index],
        series_instance_uid=_uid(origin, "seg", name, made_by),
        series_number=SERIES,
        sop_instance_uid=_uid(
            origin, "seg", name, made_by, number, hashlib.sha256(pixels.tobytes()).hexdigest()
        ),
        instance_number=number,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="0",
        content_description=(phase or NOTICE)[:64],
        content_label="COOPSEG",
        series_description=_describe_series(made_by),
        **where,
    )


def _describe_series(made_by: str) -> str:
    """Says what made a series, and that it is research, in the 64 letters that there are."""
    whole = " ".join(part for part in (MAKER, made_by) if part)
    return f"{whole}: {NOTICE.lower()}" if len(whole) < 20 else f"{whole[:40]}: not a medical device"


def _describe(index: int, name: str) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    return SegmentDescription(
        segment_number=index,
        segment_label=name[:64],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=_site(name),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=MAKER, family=codes.DCM.ArtificialIntelligence, version=__version__
        ),
    )


def _site(name: str) -> Code:
    """Returns the code of a structure."""
    from pydicom.sr.codedict import codes

    known = {
        LV: codes.SCT.LeftVentricle,
        RV: codes.SCT.RightVentricle,
        MYO: codes.SCT.LeftVentricleMyocardium,
    }
    return known.get(canonical_name(name)) or _own_code(name)


def _own_code(meaning: str) -> Code:
    """Returns a code of this package for what no other scheme has."""
    from pydicom.sr.coding import Code

    return Code(hashlib.sha256(meaning.encode()).hexdigest()[:16].upper(), OWN, meaning[:64])


def write_report(
    path: Path,
    origin: Origin,
    measures: Mapping[str, Value],
    notes: Sequence[str] = (),
    phases: Mapping[str, int] | None = None,
    *,
    name: str,
    made_by: str = "",
) -> Path | None:
    """Write a structured report (TID 1500) of what was measured; None if nothing was.

    measures: by the columns of measures.csv. Numbers become measurements; the phases of ED and ES, and how
    they were found, become texts among the qualitative evaluations. notes: become comments there, after one
    that this is research, and one on what the scanner calls the first and the last slice. phases: those of
    "ed" and "es" on which the numbers rest, counted from 0. The report belongs to the study of the scan and
    refers to the images of these phases, or to all if none are given. Codes are those of MR. Raises
    CoopsegError if an image of the study has gone.
    """
    from highdicom.sr import (
        Comprehensive3DSR,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from highdicom.sr import DeviceObserverIdentifyingAttributes as Device
    from pydicom.sr.codedict import codes

    groups = [group for each in (LV, RV, MYO) if (group := _group(origin, each, measures, name))]
    if not groups:
        return None
    phases = phases or {}
    comments = [NOTICE, *_explain_slices(origin), *notes]
    texts = {column: _phase_name(origin, phase) for column, phase in phases.items()}
    wanted = sorted(set(phases.values())) or range(len(origin.sources[0]))
    images = _headers(origin, [times[phase] for times in origin.sources for phase in wanted])
    device = Device(uid=_uid(origin, "device"), name=MAKER, manufacturer_name=MAKER, model_name=MAKER)
    report = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=codes.SCT.MagneticResonanceImagingOfHeart,
        imaging_measurements=groups,
        referenced_images=images,
    )
    report[0].ContentSequence.append(_evaluations({**measures, **texts}, comments))
    made = Comprehensive3DSR(
        evidence=images,
        content=report[0],
        series_instance_uid=_uid(origin, "sr", name, made_by),
        series_number=SERIES + 1,
        sop_instance_uid=_uid(origin, "sr", name, made_by, sorted({**measures, **texts}.items()), *comments),
        instance_number=1,
        manufacturer=MAKER,
        series_description=_describe_series(made_by),
    )
    return _save(path, made)


def _name_measured(paths: Sequence[Path], phases: Mapping[str, int]) -> Iterator[str]:
    """Yields a note of the segmentations that numbers rest on, if these are known."""
    from pydicom import dcmread

    measured = phases or ({"": 0} if len(paths) == 1 else {})
    uids = [(name, dcmread(paths[phase]).SOPInstanceUID) for name, phase in measured.items()]
    if uids:
        listed = " and ".join(f"{uid} of {name.upper()}" if name else uid for name, uid in uids)
        yield f"measured in SEG {listed}"


def _phase_name(origin: Origin, phase: int) -> str:
    after = f", {origin.times[phase]:.0f} ms after the R wave" if origin.times else ""
    return f"phase {phase + 1} of {len(origin.sources[0])}{after}"


def _explain_slices(origin: Origin) -> Iterator[str]:
    if names := origin.slices:
        yield f"slices are counted by place: slice 1 is {names[0]}, slice {len(names)} is {names[-1]}"


def _evaluations(measures: Mapping[str, Value], notes: Sequence[str]) -> ContainerContentItem:
    """Returns the qualitative evaluations of a report: a text for each phase and note."""
    from highdicom.sr import ContainerContentItem, ContentSequence, TextContentItem
    from highdicom.sr import RelationshipTypeValues as Relationship
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    named = (
        ("ed", codes.SCT.EndDiastole),
        ("es", codes.SCT.EndSystole),
        ("phases_by", _own_code("End diastole and end systole found by")),
    )
    texts = [
        (code, FOUND_BY.get(str(text), str(text))) for column, code in named if (text := measures.get(column))
    ]
    texts += [(codes.DCM.Comment, note) for note in notes]
    said = ContainerContentItem(
        Code("C0034375", "UMLS", "Qualitative Evaluations"), relationship_type=Relationship.CONTAINS
    )
    said.ContentSequence = ContentSequence([
        TextContentItem(code, text, Relationship.CONTAINS) for code, text in texts
    ])  # fmt: skip
    return said


def _group(
    origin: Origin, structure: str, measures: Mapping[str, Value], name: str
) -> MeasurementsAndQualitativeEvaluations | None:
    from highdicom.sr import (
        AlgorithmIdentification,
        FindingSite,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    found = []
    for column, of, key, unit in MEASURES:
        if of == structure and isinstance(value := measures.get(column), float):
            scheme, word = key.split(".")
            found.append(
                Measurement(
                    name=getattr(getattr(codes, scheme), word),
                    value=round(value, 3),
                    unit=Code(unit, "UCUM", unit),
                    algorithm_id=AlgorithmIdentification(name=MAKER, version=__version__),
                )
            )
    if not found:
        return None
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=_uid(origin, "tracked", name, structure), identifier=structure
        ),
        finding_type=codes.SCT.AnatomicalStructure,
        finding_sites=[FindingSite(_site(structure))],
        measurements=found,
    )


def _headers(origin: Origin, sources: Sequence[Source]) -> list[Dataset]:
    """Reads the headers of the objects of images, each once, in order.

    What highdicom copies from them is filled in where it is missing: a slice's thickness is its distance to
    the next.
    """
    from pydicom import dcmread

    places = np.array(origin.positions[:2])
    found: dict[Place, Dataset] = {}
    with Opener() as opener:
        for source in sources:
            if source.place not in found:
                with undisturbed(source.place), opener.open(source.place) as file:
                    header = dcmread(file, stop_before_pixels=True)
                for keyword in MAY_BE_EMPTY:
                    if keyword not in header:
                        setattr(header, keyword, "")
                if "SliceThickness" not in header and len(places) == 2:
                    header.SliceThickness = f"{np.linalg.norm(places[1] - places[0]):g}"
                found[source.place] = header
    return list(found.values())


def _uid(origin: Origin, *of: object) -> str:
    """Returns an identifier that is the same whenever the same is written of the same study."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=[origin.study, *origin.series, __version__, *map(str, of)]))


def _save(path: Path, made: Dataset) -> Path:
    made.SpecificCharacterSet = LETTERS
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    write_atomically(path, buffer.getvalue())
    return path
