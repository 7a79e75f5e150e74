"""DICOM objects made from a scan, in each of the forms that scanners and archives give them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom import Sequence as Items
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from coopseg.scans.types import Scan

STEP, INTERVAL = 40.0, 1000.0  # ms between two times, and between two heartbeats
SLOPE, INTERCEPT = 0.5, -10.0  # by which whole values stay whole
TO_LPS = np.diag([-1.0, -1.0, 1.0])


def uid(*words: object) -> str:
    """Equal for equal words, with room for an end of ".1"."""
    return generate_uid(entropy_srcs=[str(word) for word in words])[:60]


def an_object(sop_class: str, *words: object, patient: str = "P1", study: str = "1") -> Dataset:
    """A data set that says whose it is and nothing else."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = uid(patient, study, *words)
    data.PatientID = patient
    data.PatientName = "Doe^Jane"
    data.PatientSize, data.PatientWeight = "1.7", "65"
    data.StudyInstanceUID = uid(patient, study)
    data.StudyDate = "20240131"
    data.FrameOfReferenceUID = uid(patient, study, "frame of reference")
    data.Modality = "MR"
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    return data


def in_series(data: Dataset, number: int, description: str) -> Dataset:
    data.SeriesNumber = number
    data.SeriesInstanceUID = uid(data.StudyInstanceUID, number)
    data.SeriesDescription = description
    return data


def with_pixels(data: Dataset, images: np.ndarray) -> Dataset:
    """images: (frames, X, Y), in the values that slope and intercept make."""
    stored = np.rint((images - INTERCEPT) / SLOPE).astype(np.uint16).transpose(0, 2, 1)
    data.Rows, data.Columns = stored.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = stored.tobytes()
    return data


def where(scan: Scan, z: int) -> tuple[list[float], list[float], list[float]]:
    """Position, orientation and pixel spacing of a slice."""
    axes = TO_LPS @ scan.affine[:3, :3]
    sides = np.linalg.norm(axes, axis=0)
    position = TO_LPS @ (scan.affine @ [0, 0, z, 1])[:3]
    orientation = np.concatenate([axes[:, 0] / sides[0], axes[:, 1] / sides[1]])
    short = [round(float(value), 9) for value in (*position, *orientation)]
    return short[:3], short[3:], [round(float(sides[1]), 9), round(float(sides[0]), 9)]


def classic(scan: Scan, z: int, t: int, **whose: str) -> Dataset:
    """The image of one slice at one time, without what orders the times."""
    data = an_object(MRImageStorage, z, t, **whose)
    data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing = where(scan, z)
    data.SliceThickness = "3"  # less than the slices' distance, as it often is
    data.RescaleSlope, data.RescaleIntercept = str(SLOPE), str(INTERCEPT)
    return with_pixels(data, scan.data[None, :, :, z, t])


def series_per_slice(scan: Scan, **whose: str) -> list[Dataset]:
    return [
        in_series(_timed(classic(scan, z, t, **whose), t, TriggerTime=t * STEP), 5 + z, f"cine_sa_{z + 1}")
        for z, t in np.ndindex(scan.data.shape[2:])
    ]


def one_series(scan: Scan, **whose: str) -> list[Dataset]:
    return [in_series(_timed(data, t, TriggerTime=t * STEP), 5, "cine_sa") for data, t in _all(scan, **whose)]


def by_delay(scan: Scan, **whose: str) -> list[Dataset]:
    """TriggerTime is there too, and says nothing."""
    return [
        in_series(_timed(data, t, NominalCardiacTriggerDelayTime=t * STEP, TriggerTime=0), 5, "cine_sa")
        for data, t in _all(scan, **whose)
    ]


def by_temporal_position(scan: Scan, **whose: str) -> list[Dataset]:
    return [
        in_series(_timed(data, 0, TemporalPositionIdentifier=t + 1, TemporalResolution=STEP), 5, "cine_sa")
        for data, t in _all(scan, **whose)
    ]


def by_number(scan: Scan, **whose: str) -> list[Dataset]:
    times = scan.data.shape[3]
    interval = round(STEP * times)
    return [
        in_series(_timed(data, number, CardiacNumberOfImages=times, NominalInterval=interval), 5, "cine_sa")
        for number, (data, _) in enumerate(_all(scan, **whose))
    ]


def enhanced(scan: Scan, **whose: str) -> list[Dataset]:
    """One object with all slices and times, times first."""
    return [_multi_frame(scan, [(z, t) for t, z in np.ndindex(scan.data.shape[:1:-1])], 5, **whose)]


def enhanced_per_slice(scan: Scan, **whose: str) -> list[Dataset]:
    slices, times = scan.data.shape[2:]
    return [_multi_frame(scan, [(z, t) for t in range(times)], 5 + z, **whose) for z in range(slices)]


def one_time(scan: Scan, **whose: str) -> list[Dataset]:
    found = [in_series(classic(scan, z, 0, **whose), 5, "stack") for z in range(scan.data.shape[2])]
    for number, data in enumerate(found):
        data.InstanceNumber = number + 1
    return found


def ct(scan: Scan, **whose: str) -> list[Dataset]:
    found = one_time(scan, **whose)
    for data in found:
        data.SOPClassUID, data.Modality = CTImageStorage, "CT"
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return found


CINE: dict[str, Callable[..., list[Dataset]]] = {
    form.__name__: form
    for form in (
        series_per_slice, one_series, by_delay, by_temporal_position, by_number, enhanced, enhanced_per_slice,
    )
}  # fmt: skip
VOLUMES: dict[str, Callable[..., list[Dataset]]] = {form.__name__: form for form in (one_time, ct)}
SORTED_BY = {
    "by_delay": "NominalCardiacTriggerDelayTime", "by_temporal_position": "TemporalPositionIdentifier",
    "by_number": "InstanceNumber", "enhanced": "NominalCardiacTriggerDelayTime",
    "enhanced_per_slice": "NominalCardiacTriggerDelayTime",
}  # fmt: skip


def as_file(data: Dataset) -> bytes:
    content = io.BytesIO()
    data.save_as(content, enforce_file_format=True)
    return content.getvalue()


def save(objects: Sequence[Dataset], folder: Path, *, seed: int = 0) -> Path:
    """Writes objects under names in random order, half of them without an extension, in two folders."""
    numbers = list(range(len(objects)))
    random.Random(seed).shuffle(numbers)
    for number, data in zip(numbers, objects, strict=True):
        file = folder / f"d{number % 2}" / (f"{number:04d}" + (".dcm" if number % 4 else ""))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(as_file(data))
    return folder


def _all(scan: Scan, **whose: str) -> list[tuple[Dataset, int]]:
    return [(classic(scan, z, t, **whose), t) for z, t in np.ndindex(scan.data.shape[2:])]


def _timed(data: Dataset, number: int, **tags: Any) -> Dataset:
    data.InstanceNumber = number + 1
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def _multi_frame(scan: Scan, frames: Sequence[tuple[int, int]], number: int, **whose: str) -> Dataset:
    data = in_series(an_object(EnhancedMRImageStorage, frames, **whose), number, f"cine_sa {number}")
    data.InstanceNumber = 1
    data.NumberOfFrames = len(frames)
    _, orientation, spacing = where(scan, 0)
    data.SharedFunctionalGroupsSequence = Items([
        _item(
            PlaneOrientationSequence=_item(ImageOrientationPatient=orientation),
            PixelMeasuresSequence=_item(PixelSpacing=spacing, SliceThickness=3),
            PixelValueTransformationSequence=_item(
                RescaleSlope=SLOPE, RescaleIntercept=INTERCEPT, RescaleType="US"
            ),
        )
    ])  # fmt: skip
    data.PerFrameFunctionalGroupsSequence = Items([
        _item(
            PlanePositionSequence=_item(ImagePositionPatient=where(scan, z)[0]),
            FrameContentSequence=_item(TemporalPositionIndex=t + 1, InStackPositionNumber=z + 1),
            CardiacSynchronizationSequence=_item(
                NominalCardiacTriggerDelayTime=t * STEP, RRIntervalTimeNominal=INTERVAL
            ),
        )
        for z, t in frames
    ])  # fmt: skip
    return with_pixels(data, np.stack([scan.data[:, :, z, t] for z, t in frames]))


def _item(**tags: Any) -> Dataset:
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, Items([value]) if isinstance(value, Dataset) else value)
    return item
