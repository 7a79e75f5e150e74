"""Files of pydicom's and highdicom's own tests, most of them odd: used, refused or passed over in a line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from coopseg.dicom.convert import open_dicom
from coopseg.dicom.pixels import read_stack
from coopseg.dicom.types import Stacked
from coopseg.errors import CoopsegError

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


def files() -> Iterator[Path]:
    """What the packages ship; nothing is fetched."""
    for folder in (SHIPPED, Path(highdicom.__file__).parent):
        yield from sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".py")


def opened(path: Path) -> Stacked | None:
    found, said = None, list[str]()
    try:
        found = open_dicom(path)
        said += [str(error) for error in found.refused]
        for stack in found.stacks:
            read_stack(stack)
    except CoopsegError as error:
        said.append(str(error))
    assert [line for line in said if len(line.splitlines()) != 1 or str(path) not in line] == []
    return found


def test_there_are_such_files() -> None:
    assert sum(path.suffix == ".dcm" for path in files()) > 50


@pytest.mark.parametrize("path", list(files()), ids=lambda path: path.name)
def test_one_at_a_time(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(path, folder)
    for given in (path, folder):
        opened(given)


def test_all_at_once() -> None:
    found = opened(SHIPPED)
    assert found is None or found.passed_over


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm"]
)
def test_every_encoding_gives_the_same_pixels(name: str, tmp_path: Path) -> None:
    """Two slices of a file of one: the second is moved by hand, its pixels stay encoded."""
    first = pydicom.dcmread(SHIPPED / name)
    second = pydicom.dcmread(SHIPPED / name)
    x, y, z = first.ImagePositionPatient
    second.ImagePositionPatient = [x, y, z + 10]
    second.SOPInstanceUID += ".1"
    second.file_meta.MediaStorageSOPInstanceUID = second.SOPInstanceUID
    for number, data in enumerate((first, second)):
        data.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        data.save_as(tmp_path / str(number))
    (stack,) = open_dicom(tmp_path).stacks
    plain = pydicom.dcmread(SHIPPED / "MR_small.dcm").pixel_array
    assert np.array_equal(read_stack(stack).data, np.stack([plain.T] * 2, axis=2))
