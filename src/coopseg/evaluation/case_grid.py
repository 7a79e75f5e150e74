"""Turns a case into a scan of its own, with the affine of the resampled and cropped grid."""

from __future__ import annotations

import numpy as np

from coopseg.cases.crop import centre_start
from coopseg.cases.record import Record
from coopseg.scans.geometry import from_slices, slices_affine
from coopseg.scans.types import Scan


def case_as_scan(volume: np.ndarray, *, scan: Scan, record: Record) -> Scan:
    """Turns a volume in a case's grid into a scan that lies where the anatomy lies, axes stored as in `scan`.

    volume: (slices, H, W), in the grid of the case that `prepare` made of `scan` with this `record`.
    """
    grid = slices_affine(scan.affine, record.shape, record.orientation) @ _plane_to_stored(record)
    stored = from_slices(volume, record.orientation)
    affine = grid @ np.linalg.inv(slices_affine(np.eye(4), stored.shape, record.orientation))
    return Scan(stored, affine, scan.path)


def _plane_to_stored(record: Record) -> np.ndarray:
    """Returns (4, 4): maps (slice, row, column) of the case to indices of the scan before resampling."""
    index = np.eye(4)
    pairs = zip(record.plane, record.resampled, record.steps, record.size, strict=True)
    for axis, (length, resampled, step, size) in enumerate(pairs, start=1):
        index[axis, axis] = step
        # the centres of both planes coincide, and the crop begins at centre_start
        index[axis, 3] = (centre_start(resampled, size) - (resampled - 1) / 2) * step + (length - 1) / 2
    return index
