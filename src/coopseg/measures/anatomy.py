"""Finds what no anatomy has, and mends it: loose pieces, holes, blood of the LV outside its myocardium.

Pieces of myocardium hang together by way of the LV too: the last slice at the apex often shows a disc of
myocardium smaller than the cavity in the slice above, which does not touch the ring there.
That the LV lies within myocardium is a rule for short-axis stacks: it is looked at within slices, but not in
the first and the last one with LV, where the wall may be open towards atrium and aorta or end at the apex.
Volumes with thin slices may show the heart from any side; there the rule is not applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from coopseg.measures.pieces import (
    CROSS,
    CROSS_IN_PLANE,
    IN_PLANE,
    bounding_box,
    enclosed,
    has_thick_slices,
    loose_voxels,
)
from coopseg.measures.remarks import Order, Remark, Scale
from coopseg.measures.stack import BEYOND, CLOSED, LV, MYO, RV, name_slices, neighbours, to_stack
from coopseg.scans.geometry import SliceAxis
from coopseg.text import counted

NEEDED = (LV, MYO)  # classes of which a rule of the heart speaks


@dataclass(frozen=True)
class Violations:
    """Counts what no anatomy has, by structure.

    pieces: beyond the largest, and loose: their voxels, and where: their slices, from 1. holes: voxels of
    background that a structure encloses. gaps: where the LV touches something else than myocardium, but in
    its first and last slice. absent: which of LV, MYO and RV are nowhere, or every class if nothing is
    labelled.
    """

    pieces: Mapping[str, int]
    loose: Mapping[str, int]
    where: Mapping[str, tuple[int, ...]]
    holes: Mapping[str, int]
    gaps: Gaps
    absent: tuple[str, ...]

    def remarks(self, scale: Scale) -> tuple[Remark, ...]:
        """Says what a user should look at; holes are small and go unsaid."""
        found = [Remark(f"{name}: not found", f"no {name}", order=Order.NOT_FOUND) for name in self.absent]
        for name, number in self.pieces.items():
            what = f"{name}: {counted(number, 'piece')} apart from the largest"
            text = f"{what}, {scale.describe(name, self.loose[name])}, {name_slices(self.where[name])}"
            found.append(Remark(text, f"pieces of {name}", self.loose[name]))
        if self.gaps.voxels:
            found.append(Remark(self.gaps.describe(), "wall of LV", self.gaps.share))
        return tuple(found)


@dataclass(frozen=True)
class Gaps:
    """Says where blood of the LV lies beside something else than myocardium.

    voxels: of the LV. touched: slices, from 1, by what it touches there. share: of its outline there.
    """

    voxels: int = 0
    touched: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    share: float = 0.0

    def describe(self) -> str:
        """Says it in a line."""
        touched = " and ".join(f"{name} ({name_slices(slices)})" for name, slices in self.touched.items())
        share = "less than 1 %" if self.share < 0.01 else f"{100 * self.share:.0f} %"
        return f"LV: no myocardium between blood and {touched}; {share} of the outline there"


@dataclass(frozen=True)
class Changes:
    """Counts what was mended. pieces, removed: pieces and their voxels that went. filled: voxels in holes.

    walled: voxels of background around the LV that became myocardium.
    """

    pieces: Mapping[str, int]
    removed: Mapping[str, int]
    filled: Mapping[str, int]
    walled: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(
            _sum(self.pieces, other.pieces),
            _sum(self.removed, other.removed),
            _sum(self.filled, other.filled),
            self.walled + other.walled,
        )

    def remarks(self, scale: Scale) -> tuple[Remark, ...]:
        """Says what was changed. scale: of the mended label map."""
        found = [
            (
                f"removed {counted(number, 'loose piece')} of {name}",
                f"pieces of {name}",
                name,
                self.removed[name],
            )
            for name, number in self.pieces.items()
        ]
        found += [(f"filled holes in {n}", f"holes in {n}", n, number) for n, number in self.filled.items()]
        if self.walled:
            found.append(("put myocardium around the LV", "wall of LV", MYO, self.walled))
        return tuple(
            Remark(f"{what}, {scale.describe(name, voxels)}", kind, voxels)
            for what, kind, name, voxels in found
        )


UNCHANGED = Changes({}, {}, {})


def find_violations(
    labels: np.ndarray, names: Sequence[str], affine: np.ndarray, *, slice_axis: SliceAxis = "auto"
) -> Violations:
    """Counts what no anatomy has in a 3-D map.

    labels: (X, Y, Z) uint8 class indices into `names`, background first. affine: (4, 4), voxel index to mm.
    slice_axis: see `find_slice_axis`.
    """
    if not labels.any():
        return Violations({}, {}, {}, {}, Gaps(), tuple(names[1:]))
    stack, first = _labelled(to_stack(labels, affine, slice_axis))
    thick = has_thick_slices(affine, labels.shape, slice_axis)
    loose = {name: _loose(stack, name, names, thick) for _, name in _classes(names)}
    holes = {name: int(_holes(stack, name, names, thick)[0].sum()) for _, name in _classes(names)}
    return Violations(
        {name: number for name, (_, number) in loose.items() if number},
        {name: int(voxels.sum()) for name, (voxels, number) in loose.items() if number},
        {name: _holding(voxels, first) for name, (voxels, number) in loose.items() if number},
        {name: number for name, number in holes.items() if number},
        _find_gaps(stack, names, first) if thick else Gaps(),
        tuple(
            name for index, name in _classes(names) if name in (LV, MYO, RV) and not (stack == index).any()
        ),
    )


def mend(
    labels: np.ndarray, names: Sequence[str], affine: np.ndarray, *, slice_axis: SliceAxis = "auto"
) -> tuple[np.ndarray, Changes]:
    """Returns a 3-D map that holds the rules as far as it can be mended, and counts what was changed.

    labels: (X, Y, Z) uint8 class indices into `names`, background first. affine: (4, 4), voxel index to mm.
    slice_axis: see `find_slice_axis`.
    In turn: the largest piece of each structure stays, the others become background. Background that a
    structure encloses and touches becomes that structure; within a ring of myocardium it becomes LV where it
    touches LV, and stays in a slice where the ring holds no LV, since it may be the cavity. Background that
    touches the LV from outside becomes myocardium, where at least half of the LV's outline in the slice is
    that. It is repeated until nothing changes, so that to mend twice is to mend once. No class appears that
    was not there.
    """
    mended, changes = labels.copy(), UNCHANGED
    if not labels.any():
        return mended, changes
    thick = has_thick_slices(affine, labels.shape, slice_axis)
    stack, _ = _labelled(to_stack(mended, affine, slice_axis))
    while True:
        step = _drop_loose(stack, names, thick) + _fill_holes(stack, names, thick)
        if thick:
            step += _close_wall(stack, names)
        if step == UNCHANGED:
            return mended, changes
        changes += step


def left_out(names: Sequence[str]) -> str:
    """Says in one line which rule cannot be applied to these classes; "" if all can."""
    missing = " and no ".join(name for name in NEEDED if name not in names)
    if not missing:
        return ""
    return f"no {missing} among the classes, so pieces and holes are mended, but not the LV's wall"


def _labelled(stack: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the box with everything labelled and a voxel around it, as a view, and its first slice."""
    box = bounding_box(stack > 0)
    assert box is not None  # something is labelled
    sides = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    return stack[sides], sides[0].start


def _holding(mask: np.ndarray, first: int) -> tuple[int, ...]:
    """Returns the slices with a voxel of a mask, from 1. first: the slice of the stack that its first is."""
    return tuple((np.flatnonzero(mask.any(axis=(1, 2))) + first + 1).tolist())


def _classes(names: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(names))[1:]


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _loose(stack: np.ndarray, name: str, names: Sequence[str], thick: bool) -> tuple[np.ndarray, int]:
    """Returns a structure's voxels beside its largest piece, and how many pieces these are."""
    through = stack == names.index(LV) if name == MYO and LV in names else None
    return loose_voxels(stack == names.index(name), thick=thick, through=through)


def _drop_loose(stack: np.ndarray, names: Sequence[str], thick: bool) -> Changes:
    pieces, removed = {}, {}
    for name in sorted(names[1:], key=lambda name: name != LV):  # by which myocardium hangs together
        loose, number = _loose(stack, name, names, thick)
        if number:
            pieces[name], removed[name] = number, int(loose.sum())
            stack[loose] = 0
    return Changes(pieces, removed, {})


def _fill_holes(stack: np.ndarray, names: Sequence[str], thick: bool) -> Changes:
    filled: dict[str, int] = {}
    for _, name in _classes(names):
        holes, blood = _holes(stack, name, names, thick)
        for what, voxels in ((name, holes & ~blood), (LV, blood)):
            if number := int(voxels.sum()):
                stack[voxels] = names.index(what)
                filled[what] = filled.get(what, 0) + number
    return Changes({}, {}, filled)


def _holes(stack: np.ndarray, name: str, names: Sequence[str], thick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the background in a structure that is to be filled, and what of it becomes LV."""
    own = stack == names.index(name)
    inside, cross = enclosed(own, thick=thick), CROSS_IN_PLANE if thick else CROSS
    holes = inside & (stack == 0)
    if not holes.any():
        return holes, holes
    parts, _ = ndimage.label(holes, cross)
    touching = _parts_beside(own, parts, cross)
    if name != MYO or LV not in names:
        return touching, np.zeros_like(holes)
    cavity = inside & (stack == names.index(LV))
    blood = _parts_beside(cavity, parts, cross)
    holds_blood = cavity.any(axis=(1, 2), keepdims=True) if thick else cavity.any()
    return blood | (touching & holds_blood), blood


def _parts_beside(mask: np.ndarray, parts: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Returns the voxels of all numbered parts that touch a structure."""
    found = np.unique(parts[ndimage.binary_dilation(mask, cross)])
    return np.isin(parts, found[found > 0])


def _uncovered(stack: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Returns the LV's voxels that touch something else than LV and myocardium, but in its outer slices."""
    if not set(NEEDED) <= set(names):
        return np.zeros(stack.shape, bool)
    allowed = (BEYOND, *(names.index(name) for name in NEEDED))
    return _inner(stack == names.index(LV)) & ~np.isin(neighbours(stack), allowed).all(axis=0)


def _find_gaps(stack: np.ndarray, names: Sequence[str], first: int) -> Gaps:
    """Finds where the LV touches something else than myocardium. first: see `_holding`."""
    voxels = _uncovered(stack, names)
    if not voxels.any():
        return Gaps()
    here = np.asarray(voxels.any(axis=(1, 2)))
    around = np.where(stack == names.index(LV), neighbours(stack), BEYOND)
    allowed = [names.index(name) for name in NEEDED]
    touched = {
        name: _holding((around == index).any(axis=0) & here[:, None, None], first)
        for index, name in enumerate(names)
        if index not in allowed
    }
    outline = ((around != BEYOND) & (around != names.index(LV)))[:, here].sum()
    walled = (around == names.index(MYO))[:, here].sum()
    found = {name: slices for name, slices in touched.items() if slices}
    return Gaps(int(voxels.sum()), found, float(1 - walled / outline))


def _inner(blood: np.ndarray) -> np.ndarray:
    """Returns the LV without its first and its last slice."""
    inner, filled = blood.copy(), np.flatnonzero(blood.any(axis=(1, 2)))
    inner[filled[:1]] = inner[filled[-1:]] = False
    return inner


def _close_wall(stack: np.ndarray, names: Sequence[str]) -> Changes:
    """Makes background that touches the LV myocardium, where the wall is there for the most part."""
    if not _uncovered(stack, names).any():
        return UNCHANGED
    blood, wall = (names.index(name) for name in NEEDED)
    parts, number = ndimage.label(_inner(stack == blood), IN_PLANE)
    around = neighbours(stack)
    whose = np.broadcast_to(parts, around.shape)
    outline, walled = (
        np.bincount(whose[found & (whose > 0)], minlength=number + 1)
        for found in ((around != BEYOND) & (around != blood), around == wall)
    )
    closed = (outline > 0) & (walled >= CLOSED * outline)
    gap = (stack == 0) & closed[np.maximum(neighbours(parts), 0)].any(axis=0)
    stack[gap] = wall
    return Changes({}, {}, {}, int(gap.sum()))
