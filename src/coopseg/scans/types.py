"""Defines what the package calls a scan, a label set and a data set. No file is touched here."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

BACKGROUND = "background"
NAMELESS = re.compile(r"label\d+")  # what a value is called that nobody has named


@dataclass(frozen=True)
class Scan:
    """Holds a volume in the grid in which it was stored.

    data: (X, Y, Z) or (X, Y, Z, T), float32 for images, integer for label maps. more: further channels of an
    image (X, Y, Z), as T2 and ADC of one examination, in the same grid.
    affine: (4, 4) float64, voxel index to RAS+ millimetres; shear is allowed.
    path: where it came from, for messages. header: of that file as stored; results are written with it.
    notes: what about its header a user should look at, one line each.
    """

    data: np.ndarray
    affine: np.ndarray
    path: Path | None = None
    header: Nifti1Header | None = None
    notes: tuple[str, ...] = ()
    more: tuple[np.ndarray, ...] = ()

    @property
    def channels(self) -> tuple[Scan, ...]:
        """Returns every channel as a scan of its own."""
        return tuple(replace(self, data=data, more=()) for data in (self.data, *self.more))

    @property
    def spacing(self) -> np.ndarray:
        """Returns (3,) millimetres per voxel along each stored axis: the column norms of the affine."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def frame(self, index: int) -> Scan:
        """Returns the 3-D volume at time `index` (0-based) of a 4-D scan."""
        more = tuple(channel[..., index] for channel in self.more)
        return replace(self, data=self.data[..., index], more=more)


@dataclass(frozen=True)
class Labels:
    """Holds names of label values, also background: ("background", "LV", "MYO", "RV") for values 0 to 3."""

    names: tuple[str, ...]
    values: tuple[int, ...]  # the value of each name in the files, in the same order

    @property
    def foreground(self) -> tuple[str, ...]:
        """Returns every name but the background's."""
        return tuple(name for name in self.names if name != BACKGROUND)

    @property
    def are_named(self) -> bool:
        """Tells whether anybody has named the values."""
        return any(NAMELESS.fullmatch(name) is None for name in self.foreground)

    def contradicts(self, other: Labels) -> bool:
        """Tells whether a name has another value in `other`, or a value another name."""
        here, there = self.meaning, other.meaning
        values = {value: name for name, value in there.items()}
        return any(
            there.get(name, value) != value or values.get(value, name) != name for name, value in here.items()
        )

    @property
    def meaning(self) -> dict[str, int]:
        """Returns the value of every foreground class by its name."""
        pairs = zip(self.names, self.values, strict=True)
        return {name: value for name, value in pairs if name != BACKGROUND}


@dataclass(frozen=True)
class ScanRef:
    """Describes one 3-D volume of a data set: where its image and label are and what is known about it."""

    patient: str
    image: Path
    label: Path | None = None
    phase: str = ""  # such as "ED", "ES" or "frame07"; "" if the layout knows none
    frame: int | None = None  # 0-based index into a 4-D file; None for a 3-D one
    site: str = ""  # such as "Siemens/1" (vendor/centre); "" if unknown
    copy: int = 0  # number of a corrupted copy, 0 for an original
    normalised: bool = False  # intensities already lie in [0, 1] and must not be clipped again
    session: str = ""  # such as "ses-2": which of the patient's visits it is of; "" if there is one
    more: tuple[Path, ...] = ()  # files of further channels
    stacked: int = 1  # channels in `image` itself, along its fourth axis if there are several

    @property
    def images(self) -> tuple[Path, ...]:
        """Returns the files of all channels."""
        return (self.image, *self.more)

    @property
    def channels(self) -> int:
        """Returns how many channels it has."""
        return self.stacked + len(self.more)

    @property
    def id(self) -> str:
        """Returns a name for this volume that is unique in its data set and fits a file name."""
        parts = [self.patient, self.session, self.phase, f"copy{self.copy}" if self.copy else ""]
        return "_".join(part for part in parts if part)


@dataclass(frozen=True)
class PassedOver:
    """Names something that looks like a scan, a label map, a patient or an entry, and is not used."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Lists all volumes below one folder, in a fixed order, and says what their label values mean.

    channels: names of those of every image, in order; one without a name where nothing says otherwise.
    unlabelled: test images that came without labels, as of most challenges; only `predict` can use them.
    passed_over: what lies there and is not used. contradicted: the names that the data set has itself, if the
    names given for it say otherwise.
    """

    name: str
    root: Path
    layout: str
    labels: Labels
    items: tuple[ScanRef, ...] = ()
    unlabelled: tuple[ScanRef, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    contradicted: Labels | None = None
    channels: tuple[str, ...] = ("",)

    @property
    def patients(self) -> tuple[str, ...]:
        """Returns patient names in order of appearance, each once."""
        return tuple(dict.fromkeys(item.patient for item in self.items))
