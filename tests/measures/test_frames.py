"""What is counted in a label map, against loops over voxels, and when a grid gives no volume."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hearts import NAMES, STACK, oblique, rings, shells

from coopseg.errors import CoopsegError
from coopseg.measures.frames import check_spacing, count_frame, voxel_volume
from coopseg.measures.stack import describe_slices


@pytest.mark.parametrize("seed", range(3))
def test_volumes_of_shells_in_an_oblique_grid(seed: int) -> None:
    affine = oblique(seed=seed)
    labels = shells(affine, (40, 44, 9), 15, 23)
    frame = count_frame(labels, NAMES, affine)
    one, other, third = (affine[:3, axis].tolist() for axis in range(3))
    cross = (
        other[1] * third[2] - other[2] * third[1],
        other[2] * third[0] - other[0] * third[2],
        other[0] * third[1] - other[1] * third[0],
    )
    mm3 = abs(sum(a * b for a, b in zip(one, cross, strict=True)))
    for value, name in enumerate(NAMES[1:], start=1):
        voxels = sum(1 for place in np.ndindex(labels.shape) if labels[place] == value)
        assert frame.voxels[name] == voxels > 0
        assert frame.ml(name) == pytest.approx(voxels * mm3 / 1000, rel=1e-12)
    ball = 4 / 3 * np.pi * 15**3 / 1000
    assert frame.ml("LV") == pytest.approx(ball, rel=0.1)  # what the grid leaves of a ball
    assert frame.lines == ()


def test_no_order_or_direction_of_axes_changes_a_volume() -> None:
    labels, affine = shells(oblique(), (40, 44, 9), 15, 23), oblique()
    expected = count_frame(labels, NAMES, affine)
    assert expected.slices is not None
    for axes in permutations(range(3)):
        for flips in product((1, -1), repeat=3):
            turned = labels.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]
            moved = affine.copy()
            moved[:3, :3] = affine[:3, axes] * flips
            found = count_frame(turned, NAMES, moved)
            assert found.voxels == expected.voxels
            assert found.voxel_ml == pytest.approx(expected.voxel_ml)
            assert found.slices is not None
            assert len(found.slices.filled) == len(expected.slices.filled)


def test_slices_that_count_and_what_is_odd_about_them() -> None:
    labels = rings(7)
    labels[..., 0] = 0
    labels[..., 6][labels[..., 6] == 2] = 0  # no wall
    labels[..., 5][:12][labels[..., 5][:12] == 2] = 0  # half a wall and a little more: the middle row stays
    labels[..., 3][labels[..., 3] == 1] = 2
    found = describe_slices(labels, NAMES, STACK)
    assert (found.total, found.filled, found.bare, found.missed) == (7, (2, 3, 5, 6, 7), (7,), (4,))
    assert found.describe() == (
        "LV in 5 of 7 slices (2 to 3, 5 to 7); less than half of its outline is myocardium in slice 7, which "
        "counts too; no LV in slice 4 between them, so nothing is counted there"
    )
    assert describe_slices(np.zeros_like(labels), NAMES, STACK).describe() == "no LV in 7 slices"
    without_wall = describe_slices((labels == 1).astype(np.uint8), ("background", "LV"), STACK)
    assert without_wall.bare == without_wall.filled


def test_the_share_of_the_outline_against_loops() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (9, 8, 5)).astype(np.uint8)
    bare = []
    for index in range(5):
        outline = wall = 0
        for x, y in np.ndindex(9, 8):
            for u, v in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)):
                inside = 0 <= u < 9 and 0 <= v < 8
                if inside and labels[x, y, index] == 1 and labels[u, v, index] != 1:
                    outline += 1
                    wall += int(labels[u, v, index] == 2)
        bare += [index + 1] * (wall < outline / 2)
    assert describe_slices(labels, NAMES, STACK).bare == tuple(bare)


def test_grids_that_give_no_volume() -> None:
    labels = rings(4)
    single = count_frame(labels[..., :1], NAMES, STACK)
    assert (single.size("LV"), single.ml("LV")) == (None, None)
    assert single.lines == ("a single slice has no volume",)
    nominal = count_frame(labels, NAMES, STACK, spacing="nominal")
    assert nominal.ml("LV") is None
    assert nominal.size("LV") == nominal.voxels["LV"] * voxel_volume(STACK)
    metres = count_frame(labels, NAMES, np.diag([0.0015, 0.0015, 0.008, 1]))
    assert metres.ml("LV") is None
    assert "as of no scanner" in metres.lines[0]
    thick = count_frame(labels, NAMES, np.diag([1.5, 1.5, 25, 1]))
    assert thick.ml("LV") is not None
    assert "which is unusual" in thick.lines[0]
    with pytest.raises(CoopsegError, match="spacing 'real' is not known; use true or nominal"):
        check_spacing("real")
