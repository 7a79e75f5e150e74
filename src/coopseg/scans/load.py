"""Loads the channels and the label map of a data set's item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.scans.discover import check_found, is_lost
from coopseg.scans.nifti import read_header, read_image, read_labels
from coopseg.scans.types import Dataset, Scan, ScanRef

AFFINE_TOLERANCE = 0.5  # of the smallest voxel side: how far corners of label and image may lie apart
Grid = tuple[tuple[int, ...], np.ndarray]  # shape, and affine from voxel index to mm
DO = {
    "label": "give the label drawn on this image",
    "channel": "resample it to the first channel's grid",
}


def load_scan(ref: ScanRef) -> Scan:
    """Loads the item's (X, Y, Z) float32 image with all its channels, or its frame of a 4-D file.

    Raises CoopsegError for an unreadable file, a link to nothing, a frame or channel that the file does not
    have, and for channels in different grids.
    """
    check_found([file for file in ref.images if is_lost(file)])
    first = read_image(ref.image)
    if ref.stacked > 1:
        return split_channels(first, ref.stacked)
    return join_channels([pick_frame(scan, ref) for scan in (first, *map(read_image, ref.more))])


def join_channels(scans: Sequence[Scan]) -> Scan:
    """Makes one scan of files that hold a channel each. Raises CoopsegError if their grids differ."""
    first, *others = scans
    for other in others:
        check_grid(other.path, _grid(other), image=first.path, grid=_grid(first), what="channel")
    notes = tuple(dict.fromkeys(note for scan in scans for note in scan.notes))
    return replace(first, notes=notes, more=tuple(other.data for other in others))


def split_channels(scan: Scan, count: int) -> Scan:
    """Takes the fourth axis of a file for its channels. Raises CoopsegError if there are not `count`."""
    if scan.data.ndim != 4 or scan.data.shape[3] != count:
        found = f"a file of shape {scan.data.shape}"
        raise CoopsegError(
            f"{scan.path}: {found}, but its {count} channels should lie along a fourth axis; give the file "
            "with all of them",
            rule="dimensions",
        )
    first, *others = (np.ascontiguousarray(scan.data[..., index]) for index in range(count))
    return replace(scan, data=first, more=tuple(others))


def _grid(scan: Scan) -> Grid:
    return scan.data.shape, scan.affine


def load_label(ref: ScanRef) -> Scan | None:
    """Loads the item's (X, Y, Z) integer label map in the image's grid, None if it has none.

    Raises CoopsegError if image and label differ in shape, or in place by more than half a voxel.
    """
    if ref.label is None:
        return None
    check_found([ref.label] if is_lost(ref.label) else [])
    label, image = pick_frame(read_labels(ref.label), ref), read_header(ref.image)
    check_grid(ref.label, _grid(label), image=ref.image, grid=(image.shape, image.affine))
    return label


def check_labelled(datasets: Sequence[Dataset], verb: str) -> None:
    """Raise CoopsegError, which counts them, if there are volumes without a label."""
    if bare := [ref for dataset in datasets for ref in dataset.items if ref.label is None]:
        others = f", as have {len(bare) - 1} more" if len(bare) > 1 else ""
        raise CoopsegError(
            f"{bare[0].image}: volume {bare[0].id} has no label{others}; {verb} labelled volumes only"
        )


def frame_index(ref: ScanRef, shape: tuple[int, ...], path: Path) -> int | None:
    """Returns the index of the item's frame in a file of `shape`, None if the file is 3-D.

    Raises CoopsegError for a 4-D file if the item names no frame, and for a frame that the file lacks.
    """
    if len(shape) == 3:
        if ref.frame not in (None, 0):
            raise CoopsegError(
                f"{path}: frame {ref.frame} of {ref.id} is wanted of a 3-D file; check the table",
                rule="dimensions",
            )
        return None
    if ref.frame is None:
        raise CoopsegError(
            f"{path}: a 4-D file of {shape[3]} frames; give one 3-D volume a file, or a layout with frames",
            rule="dimensions",
        )
    if not 0 <= ref.frame < shape[3]:
        raise CoopsegError(
            f"{path}: frame {ref.frame} (from 0) of {ref.id} is not in a file of {shape[3]} frames; "
            "check the table",
            rule="dimensions",
        )
    return ref.frame


def check_grid(
    path: Path | None,
    own: Grid,
    *,
    image: Path | None,
    grid: Grid,
    what: Literal["label", "channel"] = "label",
) -> None:
    """Raise CoopsegError if a label map, or a further channel, does not lie where its image lies.

    path, own: of the label map. image, grid: of the image. They may differ in place by half a voxel; a label
    map may also be that of a single frame.
    """
    (shape, affine), (wanted, place) = own, grid
    if what == "label":
        shape, wanted = shape[:3], wanted[:3]
    if shape != wanted:
        raise CoopsegError(
            f"{path}: shape {shape}, but the image {image} has {wanted}; {DO[what]}", rule="grid"
        )
    last = np.array(shape[:3]) - 1
    corners = np.array([[x, y, z, 1] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])])
    apart = np.linalg.norm(corners @ (affine - place).T, axis=1).max()
    if apart > AFFINE_TOLERANCE * np.linalg.norm(affine[:3, :3], axis=0).min():
        raise CoopsegError(
            f"{path}: the {what} lies {apart:.1f} mm away from the image {image} by their headers; "
            f"{DO[what]} or, if their voxels match, copy the image's header into it",
            rule="grid",
        )


def pick_frame(scan: Scan, ref: ScanRef) -> Scan:
    """Picks the item's volume from its file. Raises CoopsegError for a frame that the file does not have."""
    assert scan.path is not None  # the scan was read from there
    index = frame_index(ref, scan.data.shape, scan.path)
    return scan if index is None else scan.frame(index)
