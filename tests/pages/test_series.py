"""What a page shows of a scan: the right slices, sides, volumes and outlines."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict, replace

import nibabel
import numpy as np
import pytest
from PIL import Image

from coopseg.pages.curve import draw_volumes
from coopseg.pages.series import LARGEST, Series, Volume, make_series
from coopseg.scans.types import Scan

NAMES = ("background", "LV", "MYO")


def cine(affine: np.ndarray | None = None) -> Volume:
    """A scan whose slices get brighter with slice and phase, with an LV of 6, 5 and 4 pixels a side."""
    data = np.zeros((40, 30, 5, 3), np.float32)
    data += np.arange(5)[:, None] * 10 + np.arange(3)
    labels = np.zeros(data.shape, np.uint8)
    for phase in range(3):
        side = 6 - phase
        labels[10 : 10 + side, 12 : 12 + side, 1:4, phase] = 1
    affine = np.diag([-1.5, -1.5, 8, 1.0]) if affine is None else affine
    image = nibabel.nifti1.Nifti1Image(data, affine)
    image.header.set_zooms((1.5, 1.5, 8, 0.04))
    image.header.set_xyzt_units("mm", "sec")
    return Volume("p1", "", Scan(data, affine, header=image.header), labels)


def slice_of(series: Series, phase: int, number: int) -> np.ndarray:
    """A slice as the script of the page cuts it out of its sheet."""
    head, _, body = series.sheets[phase].partition(",")
    assert head == "data:image/jpeg;base64"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
    (width, height), left, top = series.tile, number % series.across, number // series.across
    return sheet[top * height : (top + 1) * height, left * width : (left + 1) * width]


def test_a_cine() -> None:
    series = make_series([cine()], NAMES)
    assert (series.slices, series.phases) == (5, ("phase 1", "phase 2", "phase 3"))
    assert series.milliseconds == (0, 40, 80)
    assert series.size == (60, 45)
    assert series.tile == (40, 30)
    lv, myo = series.structures
    voxel = 1.5 * 1.5 * 8 / 1000
    assert lv.volumes == pytest.approx([3 * side**2 * voxel for side in (6, 5, 4)], abs=1e-3)
    assert myo.volumes == (0, 0, 0)
    assert [len(each) for each in series.outlines[0]] == [0, 1, 1, 1, 0]
    levels = [[float(slice_of(series, phase, number).mean()) for number in range(5)] for phase in range(3)]
    assert np.all(np.diff(levels, axis=1) > 0)
    assert np.all(np.diff(levels, axis=0) > 0)
    json.dumps(asdict(series), allow_nan=False)


def test_no_ml_where_the_spacing_is_not_the_true_one() -> None:
    series = make_series([cine()], NAMES, spacing="nominal")
    assert series.unit == "voxels"
    assert series.structures[0].volumes == (108, 75, 48)
    assert draw_volumes(series, {}).words.startswith("LV 48 to 108 voxels")  # type: ignore[union-attr]
    assert make_series([cine()], NAMES).unit == "ml"


def test_slices_are_counted_as_they_are_stored() -> None:
    """As warnings and notes count them, also where the stack runs from head to feet."""
    series = make_series([cine(np.diag([-1.5, -1.5, -8, 1.0]))], NAMES)
    assert np.all(np.diff([float(slice_of(series, 0, number).mean()) for number in range(5)]) > 0)


def test_names_that_the_scanner_gave_to_slices() -> None:
    slices = cine().scan.data.shape[2]
    for called in ((), ("a",), tuple(map(str, range(slices)))):
        found = make_series([replace(cine(), called=called)], NAMES).called
        assert found == (called if len(called) == slices else ())


def test_outlines_lie_on_what_they_outline() -> None:
    """In mm from the upper left corner, as the slice is shown."""
    volume = cine()
    bright = Volume("p1", "", Scan(volume.labels.astype(np.float32), volume.scan.affine), volume.labels)
    series = make_series([bright], NAMES)
    ((number, path),) = series.outlines[0][2]
    points = np.array([pair.split() for pair in path[1:].split("L")], float)
    rows, columns = np.nonzero(slice_of(series, 0, 2) > 128)
    assert number == 0
    assert points.min(0).tolist() == [columns.min() * 1.5, rows.min() * 1.5]
    assert points.max(0).tolist() == [(columns.max() + 1) * 1.5, (rows.max() + 1) * 1.5]


@pytest.mark.parametrize(
    ("affine", "sides"),
    [
        (np.diag([1.5, 1.5, 8, 1]), ("R", "L", "A", "P")),
        (np.diag([-1.5, 1.5, 8, 1]), ("R", "L", "A", "P")),
        (np.array([[0, 0, 8, 0], [1.5, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1.0]]), ("A", "P", "S", "I")),
    ],
)
def test_sides_of_the_patient(affine: np.ndarray, sides: tuple[str, ...]) -> None:
    """Shown as radiologists see it: an axial slice from the feet, a sagittal one from the left."""
    assert make_series([cine(affine)], NAMES).sides == sides


def test_large_slices_are_shown_smaller_and_pixels_square() -> None:
    scan = Scan(np.random.default_rng(0).random((500, 200, 2), np.float32), np.diag([1, 2, 8, 1.0]))
    series = make_series([Volume("p1", "", scan, np.zeros(scan.data.shape, np.uint8))], NAMES)
    assert max(series.tile) == LARGEST
    assert series.tile[0] / series.tile[1] == pytest.approx(series.size[0] / series.size[1], rel=0.01)


def test_volumes_of_two_files_are_phases() -> None:
    whole = cine()
    parts = [
        Volume(f"p1_{phase}", phase, whole.scan.frame(index), whole.labels[..., index])
        for index, phase in ((0, "ED"), (2, "ES"))
    ]
    series = make_series(parts, NAMES)
    assert series.phases == ("ED", "ES")
    assert series.milliseconds == ()
    assert series.structures[0].volumes == make_series([whole], NAMES).structures[0].volumes[::2]
