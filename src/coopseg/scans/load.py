"""From a data set's item to its 3-D volume and label map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.scans.nifti import read_header, read_image, read_labels
from coopseg.scans.types import Scan, ScanRef

AFFINE_TOLERANCE = 0.5  # of the smallest voxel side: how far a corner of the label may lie from the image's


def load_scan(ref: ScanRef) -> Scan:
    """The item's (X, Y, Z) float32 image; of a 4-D file the item's frame.

    Raises CoopsegError for an unreadable file and for a frame that the file does not have.
    """
    return _pick_frame(read_image(ref.image), ref)


def load_label(ref: ScanRef) -> Scan | None:
    """The item's (X, Y, Z) integer label map in the image's grid, None where it has none.

    Raises CoopsegError where image and label differ in shape, or in place by more than half a voxel.
    """
    if ref.label is None:
        return None
    label = _pick_frame(read_labels(ref.label), ref)
    image = read_header(ref.image)
    if label.data.shape != image.shape[:3]:
        raise CoopsegError(
            f"{ref.label}: shape {label.data.shape}, but the image {ref.image} has {image.shape[:3]}; "
            "give the label drawn on this image"
        )
    _check_place(label, image.affine, ref.image)
    return label


def _pick_frame(scan: Scan, ref: ScanRef) -> Scan:
    if scan.data.ndim == 3:
        if ref.frame not in (None, 0):
            raise CoopsegError(
                f"{scan.path}: frame {ref.frame} of {ref.id} is wanted of a 3-D file; check the table"
            )
        return scan
    frames = scan.data.shape[3]
    if ref.frame is None:
        raise CoopsegError(
            f"{scan.path}: a 4-D file of {frames} frames; give one 3-D volume a file, or a layout with frames"
        )
    if not 0 <= ref.frame < frames:
        raise CoopsegError(
            f"{scan.path}: frame {ref.frame} (from 0) of {ref.id} is not in a file of {frames} frames"
        )
    return scan.frame(ref.frame)


def _check_place(label: Scan, affine: np.ndarray, image: Path) -> None:
    last = np.array(label.data.shape) - 1
    corners = np.array([[x, y, z, 1] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])])
    apart = np.linalg.norm(corners @ (label.affine - affine).T, axis=1).max()
    if apart > AFFINE_TOLERANCE * label.spacing.min():
        raise CoopsegError(
            f"{label.path}: the label lies {apart:.1f} mm away from the image {image} by their headers; "
            "give the label drawn on this image"
        )
