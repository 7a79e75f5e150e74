"""Loads the 3-D volume and label map of a data set's item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.scans.discover import check_found, is_lost
from coopseg.scans.header import Header
from coopseg.scans.nifti import read_header, read_image, read_labels
from coopseg.scans.types import Dataset, Scan, ScanRef

AFFINE_TOLERANCE = 0.5  # of the smallest voxel side: how far corners of label and image may lie apart


def load_scan(ref: ScanRef) -> Scan:
    """Loads the item's (X, Y, Z) float32 image, or its frame of a 4-D file.

    Raises CoopsegError for an unreadable file, a link to nothing and a frame that the file does not have.
    """
    check_found([ref.image] if is_lost(ref.image) else [])
    return pick_frame(read_image(ref.image), ref)


def load_label(ref: ScanRef) -> Scan | None:
    """Loads the item's (X, Y, Z) integer label map in the image's grid, None if it has none.

    Raises CoopsegError if image and label differ in shape, or in place by more than half a voxel.
    """
    if ref.label is None:
        return None
    check_found([ref.label] if is_lost(ref.label) else [])
    label = pick_frame(read_labels(ref.label), ref)
    check_grid(ref, label=read_header(ref.label), image=read_header(ref.image))
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


def check_grid(ref: ScanRef, *, label: Header, image: Header) -> None:
    """Raise CoopsegError if image and label differ in shape, or in place by more than half a voxel."""
    if label.shape[:3] != image.shape[:3]:
        raise CoopsegError(
            f"{ref.label}: shape {label.shape[:3]}, but the image {ref.image} has {image.shape[:3]}; "
            "give the label drawn on this image",
            rule="grid",
        )
    last = np.array(label.shape[:3]) - 1
    corners = np.array([[x, y, z, 1] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])])
    apart = np.linalg.norm(corners @ (label.affine - image.affine).T, axis=1).max()
    if apart > AFFINE_TOLERANCE * np.linalg.norm(label.affine[:3, :3], axis=0).min():
        raise CoopsegError(
            f"{ref.label}: the label lies {apart:.1f} mm away from the image {ref.image} by their headers; "
            "give the label drawn on this image or, if their voxels match, copy the image's header into it",
            rule="grid",
        )


def pick_frame(scan: Scan, ref: ScanRef) -> Scan:
    """Picks the item's volume from its file. Raises CoopsegError for a frame that the file does not have."""
    assert scan.path is not None  # the scan was read from there
    index = frame_index(ref, scan.data.shape, scan.path)
    return scan if index is None else scan.frame(index)
