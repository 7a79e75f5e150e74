"""Reads what the header of a DICOM object says, classic or Enhanced multi-frame; pixels are not read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, BinaryIO

from coopseg.dicom.pixels import pixel_fault
from coopseg.dicom.types import DicomObject, Frame, Instance, Place, undisturbed
from coopseg.dicom.values import (
    PER_FRAME,
    SHARED,
    first_item,
    first_number,
    frame_groups,
    image_type,
    number,
    numbers,
    shared_group,
    text,
)
from coopseg.errors import CoopsegError

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

IMAGES = {  # SOP classes that hold the images of an examination, and their modality
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",  # Enhanced
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # Legacy Converted Enhanced
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
INDEX_CLASS = "1.2.840.10008.1.3.10"  # a DICOMDIR, under whatever name
TAGS = [
    "SOPInstanceUID", "SOPClassUID", "PatientID", "PatientSize", "PatientWeight", "StudyInstanceUID",
    "StudyDate", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ProtocolName", "Modality",
    "ImageType", "ComplexImageComponent", "FrameOfReferenceUID", "InstanceNumber", "ImageOrientationPatient",
    "ImagePositionPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "TriggerTime",
    "NominalCardiacTriggerDelayTime", "TemporalPositionIdentifier", "TemporalResolution",
    "CardiacNumberOfImages", "NominalInterval", "HeartRate", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "NumberOfFrames", PER_FRAME, SHARED,
]  # fmt: skip


def read_object(file: BinaryIO, place: Place) -> DicomObject:
    """Reads the header of a file that is open. Raises CoopsegError if it cannot be read at all."""
    from pydicom import dcmread

    with undisturbed(place):
        data = dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
        if not _modality(data) and _sop_class(data) != INDEX_CLASS:
            raise CoopsegError(f"{place.shown}: names no modality, or ends before that; copy it again")
        left = -file.tell() + file.seek(0, 2)
        fault = _fault(data, left) if _is_image(data) else ""
        instance = _instance(data, place, fault)
        frames = _frames(data, instance) if instance.is_image and not fault else ()
    return DicomObject(instance, frames)


def _is_image(data: FileDataset) -> bool:
    return _sop_class(data) in IMAGES or "Rows" in data


def _sop_class(data: FileDataset) -> str:
    return text(data, "SOPClassUID") or text(data.file_meta, "MediaStorageSOPClassUID")


def _modality(data: FileDataset) -> str:
    return text(data, "Modality") or IMAGES.get(_sop_class(data), "")


def _instance(data: FileDataset, place: Place, fault: str) -> Instance:
    series_number = number(data, "SeriesNumber")
    beats = first_item("CardiacSynchronizationSequence", *frame_groups(data)[:1], *shared_group(data))
    rate = number(data, "HeartRate")
    interval = number(data, "NominalInterval") or number(beats, "RRIntervalTimeNominal")
    interval = interval or (60000 / rate if rate else None)
    return Instance(
        place=place,
        sop=text(data, "SOPInstanceUID") or text(data.file_meta, "MediaStorageSOPInstanceUID"),
        sop_class=_sop_class(data),
        patient=text(data, "PatientID"),
        study=text(data, "StudyInstanceUID"),
        date=text(data, "StudyDate"),
        series=text(data, "SeriesInstanceUID"),
        series_number=None if series_number is None else int(series_number),
        description=text(data, "SeriesDescription") or text(data, "ProtocolName"),
        modality=_modality(data),
        reference=text(data, "FrameOfReferenceUID"),
        kind=image_type(data),
        is_image=_is_image(data),
        shape=(int(number(data, "Rows") or 0), int(number(data, "Columns") or 0)),
        phases=number(data, "CardiacNumberOfImages"),
        resolution=number(data, "TemporalResolution"),
        interval=interval,
        heart_rate=rate or (60000 / interval if interval else None),
        height=number(data, "PatientSize"),
        weight=number(data, "PatientWeight"),
        fault=fault,
    )


def _fault(data: FileDataset, left: int) -> str:
    """Says why an image cannot be used, with what to do; "" if it can. left: bytes after the header."""
    rows, columns, samples, bits = (
        int(number(data, name) or 0) for name in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    )
    if min(rows, columns, bits) < 1:
        return "its header ends before the size of the image; copy or export it again"
    if samples > 1 or "PALETTE" in text(data, "PhotometricInterpretation"):
        return "a colour image; export the images that the scanner made, which are grey"
    count = int(number(data, "NumberOfFrames") or 1)
    groups = frame_groups(data)
    if len(groups) != count and (groups or count > 1):
        return f"says it has {count} frames and where {len(groups)} of them lie; export it again"
    if any(None in _geometry(data, group) for group in groups or (data,)):
        return (
            "does not say where it lies (ImagePositionPatient, ImageOrientationPatient, PixelSpacing); "
            "export it again with these"
        )
    if any(_scaling(data, group) is None for group in groups or (data,)):
        return "its RescaleSlope is 0 or not a number; export it again"
    return pixel_fault(data, left, rows * columns * count * -(-bits // 8))


def _frames(data: FileDataset, instance: Instance) -> tuple[Frame, ...]:
    """Describes the images of an object that has no fault."""
    groups = frame_groups(data)
    return tuple(
        _frame(data, instance, group, count if groups else 0)
        for count, group in enumerate(groups or (data,), start=1)
    )


def _frame(data: FileDataset, instance: Instance, group: Dataset, count: int) -> Frame:
    """Describes one image. group: what the object says of it. count: its number, 0 if it is the only one."""
    where = (group, *shared_group(data))
    position, orientation, pixel = _geometry(data, group)
    scaling, order = _scaling(data, group), number(data, "InstanceNumber")
    assert position
    assert orientation
    assert pixel
    assert scaling  # else it has a fault
    kinds = (first_item(f"{name}ImageFrameTypeSequence", *where) for name in ("MR", "CT"))
    content = first_item("FrameContentSequence", *where)
    beats = first_item("CardiacSynchronizationSequence", *where)
    return Frame(
        instance,
        count,
        kind=next(filter(None, map(image_type, kinds)), instance.kind),
        orientation=orientation,
        position=position,
        pixel=(pixel[0], pixel[1]),
        scaling=scaling,
        trigger=number(data, "TriggerTime"),
        delay=first_number("NominalCardiacTriggerDelayTime", beats, data),
        temporal=number(content, "TemporalPositionIndex") or number(data, "TemporalPositionIdentifier"),
        order=None if order is None and not count else (int(order or 0), count),
    )


def _geometry(data: Dataset, group: Dataset) -> tuple[tuple[float, ...] | None, ...]:
    """Returns position, orientation and pixel spacing of a frame; None for what is missing or not usable."""
    where = (group, *shared_group(data))
    position, orientation, measures = (
        first_item(name, *where)
        for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    )
    pixel = numbers(measures, "PixelSpacing", 2) or numbers(data, "PixelSpacing", 2)
    turned = numbers(orientation, "ImageOrientationPatient", 6) or numbers(data, "ImageOrientationPatient", 6)
    return (
        numbers(position, "ImagePositionPatient", 3) or numbers(data, "ImagePositionPatient", 3),
        turned if turned and _are_axes(turned) else None,
        pixel if pixel and min(pixel) > 0 else None,
    )


def _are_axes(cosines: tuple[float, ...]) -> bool:
    along, down = cosines[:3], cosines[3:]
    inner = sum(a * b for a, b in zip(along, down, strict=True))
    return abs(math.hypot(*along) - 1) < 0.01 and abs(math.hypot(*down) - 1) < 0.01 and abs(inner) < 0.01


def _scaling(data: Dataset, group: Dataset) -> tuple[float, float] | None:
    """Returns slope and intercept, (1, 0) where the object has none; None if they make no sense."""
    macro = first_item("PixelValueTransformationSequence", group, *shared_group(data))
    found = macro if "RescaleSlope" in macro else data
    if "RescaleSlope" not in found:
        return 1.0, 0.0
    slope, intercept = number(found, "RescaleSlope"), number(found, "RescaleIntercept")
    return (slope, intercept or 0.0) if slope else None
