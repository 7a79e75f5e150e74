"""The made-up DICOM study: what a reader finds in it, that its views fit together, and that it is valid."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

import coopseg
from coopseg.errors import CoopsegError


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coopseg.write_dicom_phantom(tmp_path_factory.mktemp("study"), size=64, times=8)


@pytest.fixture(scope="module")
def images(study: Path) -> dict[tuple[str, int], pydicom.Dataset]:
    """By description of the series and number of the image."""
    read = [pydicom.dcmread(path) for path in study.iterdir()]
    return {(str(image.SeriesDescription), int(image.InstanceNumber)): image for image in read}


def test_a_reader_finds_the_cine_and_passes_over_the_rest(study: Path) -> None:
    from coopseg.dicom.convert import open_dicom

    found = open_dicom(study)
    (stack,) = found.stacks
    slices = stack.shape[2]
    assert (stack.name, stack.shape, stack.step) == ("PHANTOM", (64, 54, slices, 8), 115.0)
    assert stack.origin.series_numbers == tuple(range(3, 3 + slices))
    back = range(slices, 0, -1)  # they are counted by place, the other way than the series
    assert stack.origin.slices == tuple(f"series {2 + number} cine_sa_{number}" for number in back)
    assert found.refused == ()
    reasons = [entry.reason for entry in found.passed_over]
    assert sorted(reasons) == [
        "a localizer; series 1 'localizer', 3 files",
        "one location only, as of a long-axis view; series 2 'cine_la', 8 files",
    ]
    order = [int(pydicom.dcmread(path).SeriesNumber) for path in sorted(study.iterdir())]
    assert order != sorted(order)


def test_the_heart_beats_once(study: Path) -> None:
    """From end diastole over end systole, after a third of the beat or so, back."""
    from coopseg.dicom.convert import open_dicom
    from coopseg.dicom.pixels import read_stack

    data = read_stack(open_dicom(study).stacks[0]).data
    away = [float(np.abs(data[..., t] - data[..., 0]).mean()) for t in range(8)]
    assert int(np.argmax(away)) == 3
    assert away[1] < away[3] > away[5] > away[7]


def place(image: pydicom.Dataset, row: int, column: int) -> np.ndarray:
    """The mm of a pixel, by PS3.3 C.7.6.2.1.1."""
    along, down = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, image.PixelSpacing)
    corner = np.array(image.ImagePositionPatient, float)
    return np.asarray(corner + along * between_columns * column + down * between_rows * row)


@pytest.mark.parametrize("view", ["cine_la", "localizer"])
def test_views_agree_where_they_cross(view: str, images: dict[tuple[str, int], pydicom.Dataset]) -> None:
    """On the first and the last slice, where nothing is interpolated."""
    slices = len({name for name, _ in images if name.startswith("cine_sa")})
    number = 1 if view == "cine_la" else 2
    long = images[view, number]
    for row, z in ((0, 1), (long.Rows - 1, slices)):
        short = images[f"cine_sa_{z}", 1]
        middle = short.Rows // 2
        for column in (0, 20, 63):
            assert place(long, row, column) == pytest.approx(place(short, middle, column), abs=1e-3)
        assert np.array_equal(long.pixel_array[row], short.pixel_array[middle])


def test_it_is_valid(study: Path, images: dict[tuple[str, int], pydicom.Dataset], tmp_path: Path) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dicom3tools is not installed")
    for key in (("localizer", 3), ("cine_la", 2), ("cine_sa_1", 8)):
        images[key].save_as(tmp_path / "one", enforce_file_format=True)
        done = subprocess.run([program, tmp_path / "one"], capture_output=True, text=True, check=False)
        assert done.stderr.split() == ["MRImage"]


def test_equal_arguments_make_equal_files(tmp_path: Path) -> None:
    made = [
        coopseg.write_dicom_phantom(tmp_path / str(number), seed=seed, size=48, times=2)
        for number, seed in enumerate((0, 0, 1))
    ]
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in made[:2])
    assert first == second
    studies = {pydicom.dcmread(folder / "IM0001").StudyInstanceUID for folder in made}
    assert len(studies) == 2
    with pytest.raises(CoopsegError, match="not an empty folder"):
        coopseg.write_dicom_phantom(made[0])


def test_without_the_extra_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CoopsegError, match=r'pydicom is not installed.*; pip install "coopseg\[dicom\]"'):
        coopseg.write_dicom_phantom(tmp_path / "study")
    assert not (tmp_path / "study").exists()
