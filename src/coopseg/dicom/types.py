"""Defines what DICOM objects are read into before they become scans. No file is touched here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.scans.types import PassedOver
from coopseg.text import one_line, shorten

NOTICE = "Research software, not a medical device"  # stands in all that is written from DICOM


@dataclass(frozen=True, order=True)
class Place:
    """Says where an object lies: in a file, or as the member number `index` of a zip file.

    member: its name there, for messages; no file is ever written by that name.
    """

    path: Path
    member: str = ""
    index: int = -1

    @property
    def shown(self) -> Path:
        """Returns a path for messages."""
        return self.path / self.member.lstrip("/") if self.member else self.path


@contextmanager
def undisturbed(place: Place) -> Iterator[None]:
    """Turns whatever pydicom raises on a damaged object into a CoopsegError; its warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (CoopsegError, MemoryError):
        raise
    except Exception as error:  # pydicom reads a value when it is used, and may raise any kind
        why = one_line(error) or type(error).__name__
        raise CoopsegError(f"{place.shown}: cannot be read as DICOM ({why}); export it again") from None


@dataclass(frozen=True)
class Instance:
    """Describes one DICOM object, the content of a file; texts are "" and numbers None where it is silent.

    kind: its ImageType. shape: rows and columns. phases: CardiacNumberOfImages. resolution: ms between
    phases, by TemporalResolution. interval: ms between two heartbeats. height: m. weight: kg.
    fault: what keeps it from being read, with what to do; "" if nothing does.
    """

    place: Place
    sop: str
    sop_class: str
    patient: str
    study: str
    date: str
    series: str
    series_number: int | None
    description: str
    modality: str
    reference: str
    kind: tuple[str, ...]
    is_image: bool
    shape: tuple[int, int]
    phases: float | None = None
    resolution: float | None = None
    interval: float | None = None
    heart_rate: float | None = None
    height: float | None = None
    weight: float | None = None
    fault: str = ""

    @property
    def series_name(self) -> str:
        """Names its series for messages: series 5 'cine_sa'."""
        number = "without a number" if self.series_number is None else str(self.series_number)
        return f"series {number}" + (f" {self.description[:40]!r}" if self.description else "")

    def refuse(self, why: object) -> CoopsegError:
        """Returns an error that also names the patient and the study's date."""
        date = f", study of {self.date}" if self.date else ""
        return CoopsegError(f"{why} (patient {shorten(self.patient)}{date})")


@dataclass(frozen=True)
class Frame:
    """Describes one image of an instance.

    number: counts from 1 in a multi-frame object; 0 for an object of one image. kind: its FrameType or
    ImageType. orientation: direction cosines along a row, then down a column. position: of the first pixel;
    both in DICOM's LPS+ mm. pixel: mm between rows, mm between columns. scaling: slope and intercept.
    trigger, delay: ms since the R wave, by TriggerTime and by NominalCardiacTriggerDelayTime. temporal:
    TemporalPositionIdentifier or TemporalPositionIndex. order: InstanceNumber, and the frame's number.
    """

    instance: Instance
    number: int
    kind: tuple[str, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    pixel: tuple[float, float]
    scaling: tuple[float, float]
    trigger: float | None = None
    delay: float | None = None
    temporal: float | None = None
    order: tuple[int, int] | None = None

    @property
    def shown(self) -> str:
        """Names it in a message."""
        return f"{self.instance.place.shown}" + (f" (frame {self.number})" if self.number else "")


class DicomObject(NamedTuple):
    """Pairs an instance with its images; it has none if it is no image or has a fault."""

    instance: Instance
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Source:
    """Names the image that one slice at one time was read from. frame: from 1; None if it is the only one."""

    sop: str
    sop_class: str
    frame: int | None
    place: Place


@dataclass(frozen=True)
class Origin:
    """Says what a scan was made from: all that a DICOM object written for it later has to refer to.

    sources: [z][t], for every slice, from the first of the scan's third axis, and every time. orientation:
    (6,) and positions: (slices, 3) as in the objects, LPS+ mm. slices: what the scanner calls each slice, its
    series or the number of its first image; () if that tells them not apart. times: ms after the R wave, the
    median over the slices; () if nothing says them. heart_rate: per minute. interval: ms between two
    heartbeats. height: m. weight: kg. These are None where the objects do not say them.
    """

    patient: str
    study: str
    date: str
    series: tuple[str, ...]
    series_numbers: tuple[int, ...]
    description: str
    modality: str
    reference: str
    sources: tuple[tuple[Source, ...], ...]
    orientation: tuple[float, ...]
    positions: tuple[tuple[float, ...], ...]
    slices: tuple[str, ...]
    times: tuple[float, ...]
    heart_rate: float | None
    interval: float | None
    height: float | None
    weight: float | None

    @property
    def identifiers(self) -> dict[str, Any]:
        """Returns all but the single images, for a record in JSON."""
        names = (
            "patient", "study", "date", "series", "series_numbers", "description", "modality", "reference",
            "slices", "heart_rate", "interval", "height", "weight",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    @property
    def files(self) -> tuple[Path, ...]:
        """Returns the files that it was made from, each once, in order."""
        return tuple(sorted({source.place.path for times in self.sources for source in times}))


@dataclass(frozen=True)
class Stack:
    """Describes a scan whose pixels are still to be read.

    name: safe as a file name, unique among the scans that were found with it; "" until it is named.
    frames: [z][t]. affine: voxel index to RAS+ mm, where X runs along a row and Y down a column. step: ms
    between two times; 0 if there is one time, or if nothing says it. sorted_by: the attribute that orders the
    times, "" for one time. notes: one line each on what a user should look at.
    """

    name: str
    frames: tuple[tuple[Frame, ...], ...]
    affine: np.ndarray
    step: float
    sorted_by: str
    notes: tuple[str, ...]
    origin: Origin

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape (X, Y, Z) or (X, Y, Z, T) of the scan."""
        rows, columns = self.frames[0][0].instance.shape
        times = len(self.frames[0])
        return (columns, rows, len(self.frames), *((times,) if times > 1 else ()))


@dataclass(frozen=True)
class Stacked:
    """Holds the scans that were found, an error for each that is refused, and what was passed over."""

    stacks: tuple[Stack, ...]
    refused: tuple[CoopsegError, ...]
    passed_over: tuple[PassedOver, ...]
