"""Writes a made-up DICOM study as a scanner would export it: a cine, and views that a reader passes over."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import zoom

from coopseg.dicom.find import INSTALL
from coopseg.errors import CoopsegError
from coopseg.phantom.anatomy import sample_anatomy
from coopseg.phantom.scan import scan
from coopseg.phantom.scanner import Site
from coopseg.phantom.ventricles import solve_motion
from coopseg.phantom.write import TRAINING_SITE
from coopseg.scans.files import check_new

if TYPE_CHECKING:
    from pydicom import Dataset

PATIENT, DATE, TIME = "PHANTOM", "20240131", "120000"
BEAT = 920.0  # ms
FILLING = 0.7  # power of the time by which systole takes less than half of the beat: 37 %
TO_LPS = np.diag([-1.0, -1.0, 1.0])  # from NIfTI's RAS+; its own inverse
LOCALIZER, LONG_AXIS, SHORT_AXIS = 1, 2, 3  # numbers of series, SHORT_AXIS and on: of the slices


@dataclass(frozen=True)
class _Plane:
    """Holds a plane. pixels: (rows, columns). corner: its first pixel in LPS+ mm, the patient's left first.

    axes: (2, 3) unit vectors along a row and down a column. spacing: mm between rows, mm between columns.
    """

    pixels: np.ndarray
    corner: np.ndarray
    axes: np.ndarray
    spacing: tuple[float, float]


@dataclass(frozen=True)
class _Image:
    """Describes an image. number: in its series, from 1. time: ms since the R wave."""

    series: int
    description: str
    number: int
    time: float
    plane: _Plane


def write_dicom_phantom(out: str | Path, *, seed: int = 0, size: int | None = None, times: int = 25) -> Path:
    """Write the DICOM study of one made-up patient, a normal heart, into a folder; returns the folder.

    It holds a short-axis cine of the first site of `write_phantom` through a whole beat, each slice a series
    of `times` images, end diastole first; and a localizer and a long-axis view, which readers of short-axis
    cine have to pass over. Names of files are in random order. size: as in `write_phantom`. Equal arguments
    write equal images and identifiers. Needs `pip install "coopseg[dicom]"`.
    Raises CoopsegError without it, and if `out` holds anything already.

    >>> import tempfile
    >>> from coopseg.dicom.convert import open_dicom
    >>> (scan,) = open_dicom(write_dicom_phantom(tempfile.mkdtemp(), size=48, times=4)).stacks
    >>> scan.name, scan.shape[3], scan.step
    ('PHANTOM', 4, 230.0)
    """
    out = Path(out)
    check_new(out, argument="`out`")
    if importlib.util.find_spec("pydicom") is None:
        raise CoopsegError(f"{out}: pydicom is not installed, which writes DICOM; {INSTALL}")
    site = replace(TRAINING_SITE, oblique=True)
    rng = np.random.default_rng([seed, 2])
    anatomy = sample_anatomy(rng, "NOR")
    phases = np.sin(np.pi * (np.arange(times) / times) ** FILLING) ** 2
    scale = 1.0 if size is None else size / site.matrix[0]
    frames, affine = scan(
        anatomy, solve_motion(anatomy.heart), site, scale=scale, phases=tuple(phases.tolist())
    )
    images = list(_views(np.stack([frame.image for frame in frames], axis=-1), affine))
    out.mkdir(parents=True, exist_ok=True)
    for place, image in zip(rng.permutation(len(images)).tolist(), images, strict=True):
        made = _object(image, site, times, (seed, size, times))
        made.save_as(out / f"IM{place + 1:04d}", enforce_file_format=True)
    return out


def _views(volume: np.ndarray, affine: np.ndarray) -> Iterator[_Image]:
    """Yields all images of a study. volume: (X, Y, Z, T). affine: voxel index to RAS+ mm."""
    middle, times = [count // 2 for count in volume.shape[:3]], volume.shape[3]
    for axis in range(3):
        plane = _cut(volume[..., 0], affine, axis, middle[axis])
        yield _Image(LOCALIZER, "localizer", axis + 1, 0.0, plane)
    for t in range(times):
        frame, when = volume[..., t], t * BEAT / times
        yield _Image(LONG_AXIS, "cine_la", t + 1, when, _cut(frame, affine, 1, middle[1]))
        for z in range(volume.shape[2]):
            yield _Image(SHORT_AXIS + z, f"cine_sa_{z + 1}", t + 1, when, _cut(frame, affine, 2, z))


def _cut(volume: np.ndarray, affine: np.ndarray, across: int, index: int) -> _Plane:
    """Cuts a plane out of a volume (X, Y, Z); one through all slices is interpolated to square pixels."""
    steps = (TO_LPS @ affine[:3, :3]).T  # rows: mm from voxel to voxel
    along, down = (axis for axis in range(3) if axis != across)
    sides = np.linalg.norm(steps, axis=1)
    plane, between_rows = volume.take(index, axis=across).astype(np.float64), sides[down]
    if down == 2:
        slices = plane.shape[1]
        plane = zoom(plane, (1, sides[2] / sides[along]), order=1)
        between_rows *= (slices - 1) / (plane.shape[1] - 1)
    return _Plane(
        np.rint(plane.T).astype(np.uint16),
        TO_LPS @ affine[:3, 3] + index * steps[across],
        (steps / sides[:, None])[[along, down]],
        (round(float(between_rows), 6), round(float(sides[along]), 6)),
    )


def _object(image: _Image, site: Site, times: int, arguments: tuple[object, ...]) -> Dataset:
    """Returns an MR image. arguments: tell its study from others."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    def uid(*of: object) -> str:
        return str(generate_uid(entropy_srcs=["coopseg phantom", *map(str, (*arguments, *of))]))

    data, plane = Dataset(), image.plane
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, uid(image.series, image.number)
    data.StudyInstanceUID, data.SeriesInstanceUID = uid("study"), uid(image.series)
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = uid("frame of reference"), ""
    data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = PATIENT, "Phantom^", "", ""
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = DATE, TIME, "1", ""
    data.ReferringPhysicianName, data.PatientPosition, data.BodyPartExamined = "", "HFS", "HEART"
    data.Modality, data.Manufacturer, data.ManufacturerModelName = "MR", "coopseg", site.name
    data.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    data.SeriesNumber, data.SeriesDescription = image.series, image.description
    data.InstanceNumber, data.TriggerTime = image.number, round(image.time, 3)
    data.NominalInterval, data.CardiacNumberOfImages = round(BEAT), times
    data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "GR", "SS", "CG"  # with cardiac gating
    data.MRAcquisitionType, data.EchoTrainLength, data.EchoTime = "2D", 1, site.repetition / 2
    data.RepetitionTime, data.FlipAngle, data.MagneticFieldStrength = site.repetition, site.flip, site.field
    data.ImagePositionPatient = plane.corner.round(6).tolist()
    data.ImageOrientationPatient = plane.axes.ravel().round(9).tolist()
    data.PixelSpacing, data.SliceThickness = list(plane.spacing), site.thickness
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = plane.pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = plane.pixels.tobytes()
    return data
