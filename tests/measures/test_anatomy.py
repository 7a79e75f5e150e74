"""Pieces, holes and the LV's wall: against loops and scipy, and what mending may never do."""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np
import pytest
from hearts import NAMES, STACK, rings
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from coopseg.measures.anatomy import Changes, Violations, find_violations, left_out, mend
from coopseg.measures.mending import look_over, mend_heads, rules_for
from coopseg.measures.pieces import enclosed, has_thick_slices, label_pieces, loose_voxels
from coopseg.measures.remarks import Order, Scale
from coopseg.measures.stack import describe_slices
from coopseg.phantom.write import write_phantom
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label

THIN = np.diag([1.5, 1.5, 1.5, 1.0])
masks = arrays.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)))
label_maps = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 6)), elements=st.integers(0, 3)
)


SCALE = Scale(0.018, {"LV": 1000, "MYO": 1000, "RV": 1000})


def texts(found: Violations | Changes) -> tuple[str, ...]:
    return tuple(each.text for each in found.remarks(SCALE))


AROUND: list[tuple[int, ...]] = [step for step in product((-1, 0, 1), repeat=3) if any(step)]
IN_STACK: list[tuple[int, ...]] = [
    step for step in product((-2, -1, 0, 1, 2), (-1, 0, 1), (-1, 0, 1)) if any(step)
]


def pieces_by_walking(mask: np.ndarray, steps: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Voxels between which one can walk by these steps, in lists."""
    left = {tuple(place) for place in np.argwhere(mask).tolist()}
    found = []
    while left:
        piece, waiting = [], [min(left)]
        while waiting:
            place = waiting.pop()
            if place in left:
                left.remove(place)
                piece.append(place)
                waiting += [tuple(a + b for a, b in zip(place, step, strict=True)) for step in steps]
        found.append(sorted(piece))
    return found


@given(masks, st.booleans())
def test_pieces_against_walking(mask: np.ndarray, thick: bool) -> None:
    expected = pieces_by_walking(mask, IN_STACK if thick else AROUND)
    pieces, count = label_pieces(mask, thick=thick)
    found = [list(map(tuple, np.argwhere(pieces == number).tolist())) for number in range(1, count + 1)]
    assert sorted(map(sorted, found)) == sorted(expected)
    loose, number = loose_voxels(mask, thick=thick)
    assert number == max(len(expected) - 1, 0)
    assert loose.sum() == mask.sum() - max(map(len, expected), default=0)
    assert not (loose & ~mask).any()


@given(masks)
def test_holes_in_thick_slices_are_those_of_each_slice(mask: np.ndarray) -> None:
    found = enclosed(mask, thick=True)
    for plane, filled in zip(mask, found | mask, strict=True):
        assert np.array_equal(ndimage.binary_fill_holes(plane), filled)
    assert np.array_equal(enclosed(mask, thick=False) | mask, ndimage.binary_fill_holes(mask))


def test_which_slices_are_thick() -> None:
    assert has_thick_slices(STACK, (9, 9, 5))
    assert has_thick_slices(THIN, (9, 9, 1))
    assert not has_thick_slices(THIN, (9, 9, 5))
    assert has_thick_slices(STACK[:, [2, 0, 1, 3]], (5, 9, 9))


@settings(deadline=None)
@given(label_maps, st.sampled_from([STACK, THIN]))
def test_to_mend_twice_is_to_mend_once_and_no_class_appears(labels: np.ndarray, affine: np.ndarray) -> None:
    before = labels.copy()
    mended, changes = mend(labels, NAMES, affine)
    assert np.array_equal(labels, before)
    again, more = mend(mended, NAMES, affine)
    assert np.array_equal(again, mended)
    assert more.remarks(SCALE) == ()
    assert set(np.unique(mended)) <= {*np.unique(labels).tolist(), 0}
    left = find_violations(mended, NAMES, affine)
    assert (left.pieces, left.holes) == ({}, {})
    assert (changes.remarks(SCALE) == ()) == np.array_equal(mended, labels)
    found = find_violations(labels, NAMES, affine)
    if not (found.pieces or found.holes or found.gaps.voxels):
        assert np.array_equal(mended, labels)


@given(arrays.arrays(np.uint8, st.tuples(*[st.integers(2, 6)] * 3), elements=st.integers(0, 3)))
def test_gaps_of_the_wall_against_loops(labels: np.ndarray) -> None:
    filled = [index for index in range(labels.shape[2]) if (labels[..., index] == 1).any()]
    beside: dict[int, list[int]] = {}  # what is around the LV, by slice
    voxels = 0
    for x, y, z in np.argwhere(labels == 1).tolist():
        around = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
        inside = [(u, v) for u, v in around if 0 <= u < labels.shape[0] and 0 <= v < labels.shape[1]]
        values = [int(labels[u, v, z]) for u, v in inside if labels[u, v, z] != 1]
        if z not in (filled[0], filled[-1]):
            voxels += bool({0, 3} & set(values))
            beside.setdefault(z + 1, []).extend(values)
    open_ = {z: values for z, values in beside.items() if {0, 3} & set(values)}
    gaps = find_violations(labels, NAMES, np.diag([1, 1, 9, 1.0])).gaps
    assert gaps.voxels == voxels
    expected = {NAMES[k]: tuple(z for z in sorted(open_) if k in open_[z]) for k in (0, 3)}
    assert gaps.touched == {name: slices for name, slices in expected.items() if slices}
    outline = [value for values in open_.values() for value in values]
    assert gaps.share == pytest.approx(np.mean([value != 2 for value in outline]) if outline else 0)


def test_a_whole_heart_stays_as_it_is() -> None:
    labels = rings()
    mended, changes = mend(labels, NAMES, STACK)
    assert np.array_equal(mended, labels)
    assert changes.remarks(SCALE) == ()
    assert texts(find_violations(labels, NAMES, STACK)) == ()


def test_loose_pieces_go_and_a_missed_slice_stays_missed() -> None:
    labels = rings()
    expected = labels.copy()
    expected[..., 2] = labels[..., 2] = 0
    labels[1:3, 1:3, 2:4] = 1  # also in the slice that was missed
    labels[22, 22, 0] = 3
    found = find_violations(labels, NAMES, STACK)
    assert texts(found) == (
        "LV: 1 piece apart from the largest, 0.1 ml, slices 3 to 4",
        "RV: 1 piece apart from the largest, less than 0.1 ml, slice 1",
        "LV: no myocardium between blood and background (slices 3 to 4); 27 % of the outline there",
    )
    mended, changes = mend(labels, NAMES, STACK)
    assert np.array_equal(mended, expected)
    assert texts(changes) == (
        "removed 1 loose piece of LV, 0.1 ml",
        "removed 1 loose piece of RV, less than 0.1 ml",
    )


@pytest.mark.parametrize(("axis", "other"), [(0, 1), (1, 2), (2, 0)])
def test_slices_along_any_axis(axis: Literal[0, 1, 2], other: Literal[0, 1, 2]) -> None:
    """The coarse axis is found; of voxels with equal sides it has to be named, and is then counted along."""
    labels = rings(9)
    labels[1:3, 1:3, 3], labels[14:, 11:14, 5][labels[14:, 11:14, 5] == 2] = 1, 0
    turned, coarse = np.moveaxis(labels, 2, axis), np.diag([*np.insert([1.5, 1.5], axis, 8.0), 1.0])
    assert look_over(turned, NAMES, coarse) == look_over(labels, NAMES, STACK) != ()
    expected, changes = mend(labels, NAMES, STACK)
    mended, turned_changes = mend(turned, NAMES, coarse)
    assert np.array_equal(np.moveaxis(mended, axis, 2), expected)
    assert turned_changes == changes
    (piece, *_) = look_over(turned, NAMES, THIN, slice_axis=axis)
    assert piece.text == "LV: 1 piece apart from the largest, less than 0.1 ml, slice 4"
    found = describe_slices(turned, NAMES, THIN, slice_axis=axis)
    assert (found.total, found.filled) == (9, tuple(range(1, 10)))
    assert describe_slices(turned, NAMES, coarse, slice_axis=other).total == 24
    assert not has_thick_slices(coarse, turned.shape, other)


def test_a_disc_at_the_apex_hangs_together_with_the_ring_above_by_the_cavity() -> None:
    labels = rings()
    labels[..., 5] = np.where(rings(cavity=0, wall=2)[..., 5] == 2, 2, 0)
    mended, changes = mend(labels, NAMES, STACK)
    assert np.array_equal(mended, labels)
    assert texts(find_violations(labels, NAMES, STACK)) == ()
    labels[..., 4][labels[..., 4] == 1] = labels[..., 3][labels[..., 3] == 1] = 0
    assert texts(mend(labels, NAMES, STACK)[1]) == ("removed 1 loose piece of MYO, 0.2 ml",)
    assert changes.remarks(SCALE) == ()


def test_in_thin_slices_a_missing_one_parts_a_structure() -> None:
    labels = rings()
    labels[..., 2] = 0
    mended, changes = mend(labels, NAMES, THIN)
    assert not mended[..., :3].any()
    assert np.array_equal(mended[..., 3:], labels[..., 3:])
    assert dict(changes.pieces) == {"LV": 1, "MYO": 1, "RV": 1}


def test_holes_are_filled_by_what_they_are_in() -> None:
    labels, expected = rings(), rings()
    labels[12, 12, 2] = 0  # in the LV
    edge = np.argwhere((labels[..., 3] == 1) & (ndimage.binary_dilation(labels[..., 3] == 2)))[0]
    labels[edge[0], edge[1], 3] = 0  # between LV and wall
    labels[12, 12 + 7, 4] = 0  # in the wall
    mended, changes = mend(labels, NAMES, STACK)
    assert np.array_equal(mended, expected)
    assert dict(changes.filled) == {"LV": 2, "MYO": 1}


def test_a_ring_without_blood_may_be_the_cavity_and_stays() -> None:
    labels = rings()
    labels[..., 3][labels[..., 3] == 1] = 0
    mended, changes = mend(labels, NAMES, STACK)
    assert np.array_equal(mended, labels)
    assert changes.remarks(SCALE) == ()


def test_a_gap_in_the_wall_is_closed_but_not_at_the_base() -> None:
    labels = rings()
    gap = np.zeros(labels.shape, bool)
    gap[14:, 11:14] = True
    labels[gap & (labels == 2)] = 0
    found = find_violations(labels, NAMES, STACK)
    assert texts(found) == (
        "LV: no myocardium between blood and background (slices 2 to 5); 11 % of the outline there",
    )  # 5 of 44
    mended, changes = mend(labels, NAMES, STACK)
    assert changes.walled == 4 * 3
    assert find_violations(mended, NAMES, STACK).gaps.voxels == 0
    changed = mended != labels
    assert set(mended[changed]) == {2}
    assert not changed[..., [0, -1]].any()


def test_a_slice_with_hardly_any_wall_is_left_to_a_person() -> None:
    labels = rings()
    labels[..., 2][labels[..., 2] == 2] = 0
    mended, changes = mend(labels, NAMES, STACK)
    assert np.array_equal(mended, labels)
    assert changes.walled == 0
    assert find_violations(mended, NAMES, STACK).gaps.voxels > 0


def test_classes_without_a_heart() -> None:
    names = ("background", "liver", "tumour")
    labels = np.zeros((9, 9, 4), np.uint8)
    labels[1:6, 1:6] = 1
    labels[3, 3, 1] = 0
    labels[8, 8, 3] = 2
    mended, changes = mend(labels, names, STACK)
    assert [each.text for each in changes.remarks(Scale(1.0, {}))] == ["filled holes in liver, 1.0 ml"]
    assert mended[3, 3, 1] == 1
    assert rules_for(names) == "largest pieces, holes"
    assert rules_for(NAMES) == "largest pieces, holes, LV within myocardium"
    assert left_out(names) == (
        "no LV and no MYO among the classes, so pieces and holes are mended, but not the LV's wall"
    )
    nothing = find_violations(np.zeros_like(labels), names, STACK)
    assert texts(nothing) == ("liver: not found", "tumour: not found")
    assert find_violations(labels, names, STACK).absent == ()


def test_lines_of_several_frames_and_heads() -> None:
    labels = np.stack([rings(), rings()], axis=-1)
    labels[1, 1, 1, 1] = 1
    labels[..., 0][labels[..., 0] == 3] = 0
    remarks = look_over(labels, NAMES, STACK)
    assert [each.text for each in remarks] == [
        "RV: not found (phase 1 of 2)",
        "LV: 1 piece apart from the largest, less than 0.1 ml, slice 2 (phase 2 of 2)",
        "LV: no myocardium between blood and background (slice 2); 8 % of the outline there (phase 2 of 2)",
    ]
    assert [(each.order, each.phases) for each in remarks] == [
        (Order.NOT_FOUND, (1,)), (Order.OTHER, (2,)), (Order.OTHER, (2,)),
    ]  # fmt: skip
    labels[1, 1, 1, 0], labels[1:3, 1:3, 1, 1] = 1, 1
    assert [each.text for each in look_over(labels, NAMES, STACK)][1:] == [
        "LV: 1 piece apart from the largest, less than 0.1 ml, slice 2 (phases 1 to 2 of 2, most in 2)",
        "LV: no myocardium between blood and background (slice 2); 15 % of the outline there "
        "(phases 1 to 2 of 2, most in 2)",
    ]
    (said, _) = look_over(labels[..., 1], NAMES, STACK, spacing="nominal")
    assert said.text == "LV: 1 piece apart from the largest, 0.8 % of it, slice 2"
    labels[1:3, 1:3, 1], labels[1, 1, 1, 1] = 0, 1
    mended, changed = mend_heads({"FTN": labels, "FTN+STN": labels}, NAMES, STACK)
    assert [each.text for each in changed] == [
        "FTN: anatomy: removed 1 loose piece of LV, less than 0.1 ml (phase 2 of 2)",
        "FTN+STN: anatomy: removed 1 loose piece of LV, less than 0.1 ml (phase 2 of 2)",
    ]
    assert mended["FTN"].shape == labels.shape
    assert labels[1, 1, 1, 1] == 1


def test_what_is_mended_in_a_cine_is_that_of_one_phase() -> None:
    labels = np.stack([rings()] * 5, axis=-1)
    for phase, size in ((1, 2), (2, 4), (4, 3)):
        labels[:size, :size, 1, phase] = 3
    labels[12, 12, 2, 3] = 0
    _, (said,) = mend_heads({"FTN": labels}, NAMES, STACK)
    assert said.text == (  # 16 voxels of 0.018 ml in phase 3
        "anatomy: removed 1 loose piece of RV, 0.3 ml (phases 2 to 3, 5 of 5, most in 3); "
        "filled holes in LV, less than 0.1 ml (phase 4 of 5)"
    )
    assert (said.order, said.phases) == (Order.MENDED, (2, 3, 4, 5))


@pytest.mark.parametrize("seed", range(2))
def test_the_phantoms_hearts_are_whole(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """What is drawn from a formula breaks no rule, but the grid may part a tip of the RV."""
    data = write_phantom(tmp_path_factory.mktemp("whole"), patients=2, cross_patients=1, seed=seed)
    for folder in data.values():
        dataset = open_dataset(folder)
        for item in dataset.items:
            label = load_label(item)
            assert label is not None
            indices = label.data.astype(np.uint8)
            found = find_violations(indices, dataset.labels.names, label.affine)
            assert (set(found.pieces) <= {"RV"}, found.holes, found.absent) == (True, {}, ())
            assert (found.gaps.voxels, found.loose.get("RV", 0) < 0.01 * (indices > 0).sum()) == (0, True)
