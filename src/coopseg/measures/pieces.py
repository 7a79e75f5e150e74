"""Finds the pieces of a structure and the holes in it: in 3-D, but in thick slices slice by slice.

Short-axis slices lie 5 to 10 mm apart and have pixels of 1 to 2 mm: the next slice is several pixels away.
Neighbours in 3-D are then wrong for two purposes. A slice in which a structure was missed would part it in
two, and the smaller half, which is right, would go: so a piece reaches over one such slice. And from slice to
slice a contour moves by more than a hole is wide, so that nearly every hole is open above or below: so holes
are looked for within slices.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from coopseg.scans.geometry import SliceAxis, find_slice_axis

THICK = 2.0  # slices whose distance is this many times the larger side of a pixel, or more, are thick
REACH = 2  # slices up or down to which a piece reaches in thick slices: one may lie between
IN_PLANE = np.zeros((3, 3, 3), bool)  # eight neighbours in the slice
IN_PLANE[1] = True
CROSS = ndimage.generate_binary_structure(3, 1)  # six neighbours
CROSS_IN_PLANE = CROSS & IN_PLANE  # four in the slice
ALL_AROUND = np.ones((3, 3, 3), bool)


def has_thick_slices(affine: np.ndarray, shape: tuple[int, ...], slice_axis: SliceAxis = "auto") -> bool:
    """Tells whether slices lie so far apart that neighbours across them mean little; true of a single slice.

    affine: (4, 4), voxel index to mm. shape: (X, Y, Z). slice_axis: see `find_slice_axis`.
    """
    axis = find_slice_axis(affine, shape, slice_axis)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return shape[axis] == 1 or bool(spacing[axis] >= THICK * np.delete(spacing, axis).max())


def label_pieces(mask: np.ndarray, *, thick: bool) -> tuple[np.ndarray, int]:
    """Numbers the pieces of a structure from 1, and counts them.

    mask: (slices, rows, columns). Thin slices: neighbours are the 26 around a voxel. Thick ones: the eight in
    its slice, and the nine next to it in each of two slices up and down.
    """
    if not thick:
        return ndimage.label(mask, ALL_AROUND)
    flat, count = ndimage.label(mask, IN_PLANE)
    rows, columns = mask.shape[1:]
    pairs = [np.zeros((2, 0), np.intp)]
    for up, down, right in product(range(1, REACH + 1), (-1, 0, 1), (-1, 0, 1)):
        here = flat[:-up, max(-down, 0) : rows - max(down, 0), max(-right, 0) : columns - max(right, 0)]
        there = flat[up:, max(down, 0) : rows - max(-down, 0), max(right, 0) : columns - max(-right, 0)]
        both = (here > 0) & (there > 0)
        pairs.append(np.stack([here[both], there[both]]))
    first, second = np.concatenate(pairs, axis=1) - 1
    links = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    number, piece = connected_components(links, directed=False)
    return np.concatenate([[0], piece + 1])[flat], number


def loose_voxels(
    mask: np.ndarray, *, thick: bool, through: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Returns the voxels of all pieces of a structure but the largest, and how many pieces these are.

    through: another structure, by way of which pieces hang together too. Of pieces of one size the one with
    the first voxel is kept.
    """
    loose = np.zeros_like(mask)
    whole = mask if through is None else mask | through
    box = bounding_box(whole)
    if box is None or not mask.any():
        return loose, 0
    pieces, count = label_pieces(whole[box], thick=thick)
    sizes = np.bincount(pieces[mask[box]], minlength=count + 1)
    loose[box] = mask[box] & (pieces != int(sizes.argmax()))
    return loose, int((sizes > 0).sum()) - 1


def enclosed(mask: np.ndarray, *, thick: bool) -> np.ndarray:
    """Returns the voxels that a structure encloses on all sides, in thick slices within the slice."""
    found = np.zeros_like(mask)
    box = bounding_box(mask)
    if box is not None:
        filled = ndimage.binary_fill_holes(mask[box], CROSS_IN_PLANE if thick else CROSS)
        found[box] = filled & ~mask[box]
    return found


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Returns the smallest box that holds all voxels, None without any."""
    return ndimage.find_objects(mask.view(np.uint8), max_label=1)[0]
