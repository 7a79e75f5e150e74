"""Finds DICOM objects in folders and zip files, by their content and not their names; reads headers."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from coopseg.dicom.headers import INDEX_CLASS, read_object
from coopseg.dicom.places import Opener, list_places
from coopseg.dicom.types import DicomObject
from coopseg.errors import CoopsegError
from coopseg.scans.discover import telling
from coopseg.scans.files import is_file, is_folder
from coopseg.scans.types import PassedOver
from coopseg.text import counted

INSTALL = 'pip install "coopseg[dicom]"'


@dataclass
class Found:
    """Holds what lies below a path: objects, errors of files that cannot be read, and what is no DICOM."""

    objects: list[DicomObject] = field(default_factory=list)
    failed: list[CoopsegError] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)


def find_objects(entry: Path) -> Found:
    """Reads the headers of all DICOM objects below a folder, in a zip file, or of one file.

    A line on the console says now and then how many files were looked at. Raises CoopsegError if there is
    nothing at `entry`, and if the extra `dicom` is not installed.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise CoopsegError(f"{entry}: pydicom is not installed, which reads DICOM; {INSTALL}")
    if not is_folder(entry) and not is_file(entry):
        raise CoopsegError(f"{entry}: no such file or folder; check the path")
    found, others = Found(), list[Path]()
    done, total = 0, 0

    def doing() -> str:
        return f"{done} of {total} files looked at" if total else "still listing its files"

    with Opener() as opener, telling(entry, doing):
        places = list_places(entry, opener, found.failed)
        total = len(places)
        for place in places:
            try:
                if opener.is_dicom(place):
                    with opener.open(place) as file:
                        found.objects.append(read_object(file, place))
                else:
                    others.append(place.shown)
            except CoopsegError as error:
                found.failed.append(error)
            done += 1
    found.objects = [thing for thing in found.objects if thing.instance.sop_class != INDEX_CLASS]
    if others:
        what = "does not begin as a DICOM file does"
        found.passed_over.append(PassedOver(others[0], f"{what}; {counted(len(others), 'file')}"))
    return found
