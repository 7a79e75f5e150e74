"""Reads a NIfTI header and checks its claims before memory is allocated for the voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from coopseg.errors import CoopsegError

HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
MAX_VOXELS = 2**31  # 8 GiB as float32, far above any scan
SCALE_TOLERANCE = 0.01  # largest relative difference between the sform's column norms and pixdim
SINGULAR = 1e-6  # |det| over the product of the column norms; 1 for a box, 0 for a plane
# How far below 0 the rounding of a turn by 180 degrees may bring 1 - b² - c² - d² of a qform. Files in use
# reach 1e-6, beyond nibabel's own limit of 3.6e-7; at 1e-5 directions are off by 0.4 degrees at most.
QUATERNION_ROUNDING = 1e-5
APART = 0.01  # difference of sform and qform, relative to a voxel's side, from which on they disagree
MM = {1: 1000.0, 3: 0.001}  # of a metre and a micrometre, by code of xyzt_units; ITK too takes others for mm


@dataclass(frozen=True)
class Header:
    """Holds a checked NIfTI header.

    shape: (X, Y, Z) or (X, Y, Z, T); trailing axes of length 1 dropped, two dimensions become (X, Y, 1).
    dtype: as stored.
    affine: (4, 4) float64 to RAS+ mm, of float32 values in the file's unit.
    version: 1 or 2.
    offset: bytes from the start of the (decompressed) file to the voxels.
    end: the same, to the end of the voxels.
    scaling: slope and intercept of the stored values; (1, 0) if they are the values themselves.
    raw: the header as stored. notes: what about it a user should look at, one line each.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray
    version: int
    offset: int
    end: int
    scaling: tuple[float, float]
    raw: Nifti1Header
    notes: tuple[str, ...]

    @property
    def voxels(self) -> int:
        """Counts the voxels of all frames."""
        return math.prod(self.shape)


def parse_header(block: bytes, path: Path) -> Header:
    """Parses the header in the first `HEADER_BYTES` bytes of a decompressed file.

    Raises CoopsegError for anything but a single-file NIfTI-1 or -2 with 2 to 4 real dimensions, a real
    numeric type, a plausible size, a finite scaling and an invertible affine.
    """
    raw, version = _identify(block, path)
    sizes = _sizes(raw, path)
    dtype = _dtype(raw, path)
    voxels = math.prod(sizes)
    if voxels > MAX_VOXELS:
        raise CoopsegError(
            f"{path}: header claims {voxels} voxels, more than {MAX_VOXELS}; the header is damaged"
        )
    offset = float(raw["vox_offset"])
    if not raw.single_vox_offset <= offset < 2**31:
        raise CoopsegError(
            f"{path}: header puts the voxels at byte {offset}; the header is damaged, export it again"
        )
    end = int(offset) + voxels * dtype.itemsize
    affine, notes = _affine(raw.copy(), path)
    affine[:3] *= MM.get(int(raw["xyzt_units"]) & 7, 1.0)
    shape, scaling = _squeeze(sizes, path), _scaling(raw, path)
    return Header(shape, dtype, affine, version, int(offset), end, scaling, raw, notes)


def _identify(block: bytes, path: Path) -> tuple[Nifti1Header, int]:
    kinds: tuple[tuple[Any, int, bytes], ...] = ((Nifti1Header, 1, b"n+1"), (Nifti2Header, 2, b"n+2"))
    for header, version, single in kinds:
        size = header.sizeof_hdr
        magic = block[344:347] if version == 1 else block[4:7]
        declared = {"<": int.from_bytes(block[:4], "little"), ">": int.from_bytes(block[:4], "big")}
        for endianness in (order for order in declared if declared[order] == size <= len(block)):
            if magic == single:
                return header(block[:size], endianness=endianness, check=False), version
            if magic in (b"ni1", b"ni2"):
                raise CoopsegError(f"{path}: a two-file NIfTI (.hdr and .img); convert it to one .nii.gz")
    raise CoopsegError(f"{path}: not a NIfTI file (no NIfTI header found); give a .nii or .nii.gz scan")


def _sizes(raw: Nifti1Header, path: Path) -> tuple[int, ...]:
    rank = int(raw["dim"][0])
    if not 1 <= rank <= 7:
        raise CoopsegError(f"{path}: header claims {rank} dimensions; the header is damaged, export it again")
    sizes = tuple(int(size) for size in raw["dim"][1 : rank + 1])
    if min(sizes) < 1:
        raise CoopsegError(f"{path}: header claims the shape {sizes}; the header is damaged, export it again")
    return sizes


def _squeeze(sizes: tuple[int, ...], path: Path) -> tuple[int, ...]:
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    if len(sizes) == 2:
        return (*sizes, 1)
    if len(sizes) not in (3, 4):
        raise CoopsegError(
            f"{path}: shape {sizes}; a scan has 3 dimensions, or 4 with time", rule="dimensions"
        )
    return sizes


def _dtype(raw: Nifti1Header, path: Path) -> np.dtype:
    code = int(raw["datatype"])
    try:
        dtype = raw.get_data_dtype()
    except (HeaderDataError, KeyError):
        raise CoopsegError(
            f"{path}: unknown data type code {code}; export it as integers or float32"
        ) from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise CoopsegError(f"{path}: data type {dtype} (code {code}); export it as integers or float32")
    return dtype


def _scaling(raw: Nifti1Header, path: Path) -> tuple[float, float]:
    """Returns slope and intercept. A slope of 0, or with some writers NaN or infinity, means no scaling."""
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise CoopsegError(
            f"{path}: intensities are scaled by {slope:g} and shifted by {intercept}; export the scan again"
        )
    return slope, intercept


def _affine(raw: Nifti1Header, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the affine in the file's unit, and a note if another one could have been meant."""
    with np.errstate(all="ignore"):
        chosen, notes = _choose_affine(raw, path)
        affine = chosen.astype(np.float32).astype(np.float64)
    if not np.isfinite(affine).all():
        raise CoopsegError(
            f"{path}: the affine holds NaN or infinity; export the scan again with its geometry",
            rule="affine",
        )
    if _is_singular(affine):
        norms = np.linalg.norm(affine[:3, :3], axis=0)
        raise CoopsegError(
            f"{path}: the affine is singular (voxel sizes {norms}); export the scan again", rule="affine"
        )
    return affine, notes


def _is_singular(affine: np.ndarray) -> bool:
    norms = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(norms.min() == 0 or abs(np.linalg.det(affine[:3, :3] / norms)) < SINGULAR)


def _choose_affine(raw: Nifti1Header, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the sform if its scales agree with pixdim, else the qform, else the sform scaled to pixdim.

    ACDC as distributed has an sform with unit voxels beside a qform with the true sizes, so the sform
    cannot simply be preferred. If no code is set, the header holds no direction. Axes are then taken as
    left, posterior, superior, as ITK reads such a file and as ACDC is stored.
    """
    raw["pixdim"][1:4] = np.abs(raw["pixdim"][1:4])  # some writers put the direction into the sign
    pixdim = np.asarray(raw["pixdim"][1:4], dtype=float)
    sform = np.asarray(raw.get_sform(), dtype=float)
    scales = np.linalg.norm(sform[:3, :3], axis=0)
    sized = bool((pixdim > 0).all() and np.isfinite(pixdim).all())
    agree = not sized or bool((np.abs(scales - pixdim) <= SCALE_TOLERANCE * pixdim).all())
    has_sform, has_qform = raw["sform_code"] > 0, raw["qform_code"] > 0
    if has_sform and not np.isfinite(sform).all():
        return sform, ()  # the caller refuses it
    if has_sform and agree and not (has_qform and _is_singular(sform)):
        return sform, _disagreement(sform, _qform(raw), "sform") if has_qform else ()
    if has_qform:
        qform = _qform(raw)
        if qform is None:
            raise CoopsegError(
                f"{path}: the qform is no rotation and scale; export the scan again", rule="affine"
            )
        return qform, _disagreement(qform, sform, "qform") if has_sform else ()
    if has_sform:  # the caller refuses one with a column of zeros
        return (np.c_[sform[:, :3] / scales * pixdim, sform[:, 3]] if scales.all() else sform), ()
    return np.diag([-pixdim[0], -pixdim[1], pixdim[2], 1.0]), ()


def _qform(raw: Nifti1Header) -> np.ndarray | None:
    """Returns the qform, None if it is no rotation and scale."""
    raw.quaternion_threshold = np.float64(-QUATERNION_ROUNDING)
    try:
        return raw.get_qform()
    except (HeaderDataError, ValueError):
        return None


def _disagreement(taken: np.ndarray, other: np.ndarray | None, name: str) -> tuple[str, ...]:
    """Returns a note if the affine that was not taken differs; one that is no affine at all goes unsaid.

    An sform with unit voxels that differs in nothing else holds no sizes, and disagrees with none.
    """
    if other is None or not np.isfinite(taken).all() or not np.isfinite(other).all():
        return ()
    sizes, scales = (np.linalg.norm(affine[:3, :3], axis=0) for affine in (taken, other))
    if name == "qform" and np.allclose(scales, 1, atol=1e-4):
        other = np.c_[other[:, :3] * sizes, other[:, 3]]
    turned = np.abs(taken[:3, :3] - other[:3, :3]) / sizes
    moved = float(np.abs(taken[:3, 3] - other[:3, 3]).max())
    if turned.max() <= APART and moved <= APART * sizes.min():
        return ()
    if _is_singular(other):
        return (f"the sform is singular; the {name} is taken",)
    return (f"sform and qform disagree; the {name} is taken",)
