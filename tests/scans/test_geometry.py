"""From stored volumes to slices and back, for every way of storing one."""

from collections.abc import Iterator
from itertools import permutations, product
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff

from coopseg.scans.geometry import Orientation, find_orientation, from_slices, slices_affine, to_slices

ALL_48 = [(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]
SHAPE = (5, 4, 3)


def axes_affine(
    left: np.ndarray,
    posterior: np.ndarray,
    superior: np.ndarray,
    spacing: tuple[float, float, float] = (1.25, 1.5, 10.0),
) -> np.ndarray:
    """Affine (RAS+) whose columns are the given directions (LPS), in order columns, rows, slices."""
    affine = np.eye(4)
    directions = np.column_stack([left, posterior, superior]) * [[-1], [-1], [1]]
    affine[:3, :3] = directions / np.linalg.norm(directions, axis=0) * spacing
    affine[:3, 3] = (12, -34, 56)
    return affine


def short_axis(
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0),
    spacing: tuple[float, float, float] = (1.25, 1.5, 10.0),
) -> np.ndarray:
    """A typical short-axis stack, stored columns first, slices from apex to base; tilted by degrees."""
    normal = np.array([-0.70, 0.55, 0.45])
    columns = np.array([0.72, 0.54, 0.44])
    x, y, z = np.radians(tilt)
    turn = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    turn = turn @ np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    return axes_affine(turn @ columns, turn @ np.cross(normal, columns), turn @ normal, spacing)


AFFINES = {
    "as ACDC": np.diag([-1.25, -1.5, 10.0, 1.0]),
    "short axis": short_axis(),
    "tilted": short_axis((20, -15, 10)),
    "sheared": short_axis() @ np.array([[1, 0.1, 0.02, 0], [0, 1, 0.03, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
}


def stored_in_48_ways(data: np.ndarray, affine: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same voxels in the same place, every way: nibabel permutes and flips."""
    for axes, flips in ALL_48:
        ornt = np.array([[axis, -1 if flip else 1] for axis, flip in zip(axes, flips, strict=True)])
        yield apply_orientation(data, ornt), affine @ inv_ornt_aff(ornt, data.shape)


@pytest.mark.parametrize("name", AFFINES)
def test_all_48_ways_of_storing_a_scan_give_the_same_slices(name: str) -> None:
    data = np.arange(60).reshape(SHAPE)
    affine = AFFINES[name]
    expected = to_slices(data, find_orientation(affine, SHAPE))
    for stored, stored_affine in stored_in_48_ways(data, affine):
        orientation = find_orientation(stored_affine, stored.shape)
        np.testing.assert_array_equal(to_slices(stored, orientation), expected)
        assert orientation.spacing(np.linalg.norm(stored_affine[:3, :3], axis=0)) == pytest.approx(
            find_orientation(affine, SHAPE).spacing(np.linalg.norm(affine[:3, :3], axis=0))
        )


@pytest.mark.parametrize(("axes", "flips"), ALL_48)
def test_undo_is_exact_and_a_point_keeps_its_value(
    axes: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    orientation = Orientation(axes, flips)
    data = np.arange(60).reshape(SHAPE)
    sliced = to_slices(data, orientation)
    np.testing.assert_array_equal(from_slices(sliced, orientation), data)
    np.testing.assert_array_equal(to_slices(from_slices(sliced, orientation), orientation), sliced)
    affine = AFFINES["sheared"]
    back = np.linalg.inv(affine) @ slices_affine(affine, SHAPE, orientation)
    for index in np.ndindex(sliced.shape):  # slice index to mm to stored index
        stored = tuple(np.rint(back @ (*index, 1))[:3].astype(int))
        assert sliced[index] == data[stored]


@pytest.mark.parametrize(("axes", "flips"), ALL_48[::5])
def test_leading_axes_stay_in_front(axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    orientation = Orientation(axes, flips)
    data = np.arange(120).reshape(2, *SHAPE)
    sliced = to_slices(data, orientation)
    np.testing.assert_array_equal(sliced[1], to_slices(data[1], orientation))
    np.testing.assert_array_equal(from_slices(sliced, orientation), data)


def test_acdc_as_stored_is_a_plain_transposition() -> None:
    assert find_orientation(AFFINES["as ACDC"], SHAPE) == Orientation((2, 1, 0), (False, False, False))


@pytest.mark.parametrize("tilt", list(product((-15, 0, 15), repeat=3)))
def test_oblique_short_axis_stacks_keep_one_orientation(tilt: tuple[float, float, float]) -> None:
    """However a patient's heart lies, the plane is not turned by 90 degrees against another patient's."""
    assert find_orientation(short_axis(tilt), SHAPE) == Orientation((2, 1, 0), (False, False, False))


@pytest.mark.parametrize(
    ("codes", "seen"),
    [("RAS", "LP"), ("LPS", "LP"), ("RSA", "LI"), ("ASR", "PI"), ("SRP", "LI"), ("PIR", "PI")],
)
def test_planes_are_shown_as_radiology_shows_them(codes: str, seen: str) -> None:
    """Axial, coronal and sagittal stacks (third axis the coarsest): columns and rows run towards these."""
    ornt = nib.orientations.axcodes2ornt(codes)
    directions = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(ornt.astype(int)):
        directions[world, axis] = sign
    affine = np.eye(4)
    affine[:3, :3] = directions * (1, 1, 5)
    sliced = slices_affine(affine, SHAPE, find_orientation(affine, SHAPE))
    codes_after = nib.aff2axcodes(sliced)
    assert codes_after[2] + codes_after[1] == seen


@pytest.mark.parametrize(
    ("spacing", "first"),
    [
        ((10, 1, 1), 0),
        ((1, 10, 1), 1),
        ((1, 1, 10), 2),
        ((1, 1, 1), 2),
        ((2, 2, 1), 2),
        ((1, 1.00001, 1), 2),
        ((1.25, 1, 1), 0),
        ((1.15, 1, 1), 2),
    ],
)
def test_slices_are_stacked_along_the_coarsest_axis(spacing: tuple[float, ...], first: int) -> None:
    assert find_orientation(np.diag([*spacing, 1.0]), SHAPE).axes[0] == first


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_slice_axis_can_be_given(axis: Literal[0, 1, 2]) -> None:
    assert find_orientation(np.diag([1, 1, 5, 1.0]), SHAPE, slice_axis=axis).axes[0] == axis


def test_an_orientation_names_each_axis_once() -> None:
    with pytest.raises(ValueError, match="not an orientation"):
        Orientation((0, 0, 1), (False, False, False))


@pytest.mark.real
def test_both_real_data_sets_show_the_rv_on_the_left(real_data: Path) -> None:
    from coopseg.scans.labels import labels_to_indices
    from coopseg.scans.layouts import open_dataset
    from coopseg.scans.load import load_label

    for name in ("acdc", "mnms"):
        dataset = open_dataset(real_data / name)
        left = []
        for item in dataset.items[::6]:
            label = load_label(item)
            assert label is not None
            indices = labels_to_indices(
                label.data, dataset.labels, names=dataset.labels.names, path=item.label
            )
            sliced = to_slices(indices, find_orientation(label.affine, label.data.shape))
            _, _, lv = np.nonzero(sliced == dataset.labels.names.index("LV"))
            _, _, rv = np.nonzero(sliced == dataset.labels.names.index("RV"))
            left.append(rv.mean() < lv.mean())
        assert all(left)
