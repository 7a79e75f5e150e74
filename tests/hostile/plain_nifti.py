"""NIfTI-1 and -2 written and read straight from the standard, field by field, without nibabel."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

# name: (offset, struct format), https://nifti.nimh.nih.gov
FIELDS: dict[int, dict[str, tuple[int, str]]] = {
    1: {
        "sizeof_hdr": (0, "i"), "dim": (40, "8h"), "datatype": (70, "h"), "bitpix": (72, "h"),
        "pixdim": (76, "8f"), "vox_offset": (108, "f"), "scl_slope": (112, "f"), "scl_inter": (116, "f"),
        "xyzt_units": (123, "B"), "qform_code": (252, "h"), "sform_code": (254, "h"),
        "quatern": (256, "3f"), "qoffset": (268, "3f"), "srow": (280, "12f"), "magic": (344, "4s"),
    },
    2: {
        "sizeof_hdr": (0, "i"), "magic": (4, "8s"), "datatype": (12, "h"), "bitpix": (14, "h"),
        "dim": (16, "8q"), "pixdim": (104, "8d"), "vox_offset": (168, "q"), "scl_slope": (176, "d"),
        "scl_inter": (184, "d"), "qform_code": (344, "i"), "sform_code": (348, "i"),
        "quatern": (352, "3d"), "qoffset": (376, "3d"), "srow": (400, "12d"), "xyzt_units": (500, "i"),
    },
}  # fmt: skip
SIZES, FIRST_VOXEL, MAGIC = {1: 348, 2: 540}, {1: 352, 2: 544}, {1: b"n+1", 2: b"n+2"}
TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}


class Illegal(Exception):  # noqa: N818 (not an error of this program)
    """The bytes are no single-file NIfTI of a 3-D or 4-D scan of numbers."""


@dataclass(frozen=True)
class Decoded:
    """stored: voxels as in the file; values: float64 after slope and intercept; affine: (4, 4)."""

    stored: np.ndarray
    values: np.ndarray
    affine: np.ndarray
    scaled: bool


def encode(voxels: np.ndarray, *, version: int = 1, order: str = "<", **fields: Any) -> bytes:
    """A file of these voxels; `fields` replace the usual content of the header."""
    shape = voxels.shape
    spacing = (1.5, 1.25, 8.0, 30.0)
    content: dict[str, Any] = {
        "sizeof_hdr": SIZES[version], "dim": (len(shape), *shape, *[1] * (7 - len(shape))),
        "datatype": next(code for code, name in TYPES.items() if np.dtype(name) == voxels.dtype),
        "bitpix": 8 * voxels.dtype.itemsize, "pixdim": (1.0, *spacing, 0, 0, 0),
        "vox_offset": FIRST_VOXEL[version], "scl_slope": 1.0, "scl_inter": 0.0, "xyzt_units": 10,
        "qform_code": 0, "sform_code": 1, "quatern": (0.0, 0.0, 1.0), "qoffset": (60.0, 50.0, -30.0),
        "srow": (-1.5, 0, 0, 60, 0, -1.25, 0, 50, 0, 0, 8, -30),
        "magic": MAGIC[version] + (b"" if version == 1 else b"\0\r\n\x1a\n"), **fields,
    }  # fmt: skip
    block = bytearray(FIRST_VOXEL[version])
    for name, value in content.items():
        write_field(block, version, order, name, value)
    return bytes(block) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")  # type: ignore[arg-type]


def write_field(block: bytearray, version: int, order: str, name: str, value: Any) -> None:
    """Overwrite a field of a header."""
    offset, form = FIELDS[version][name]
    struct.pack_into(order + form, block, offset, *(value if isinstance(value, tuple) else (value,)))


def decode(content: bytes) -> Decoded:
    """What an uncompressed file holds. Raises Illegal."""
    version, order = _kind(content)
    read = {
        name: struct.unpack_from(order + form, content, at) for name, (at, form) in FIELDS[version].items()
    }
    shape = _shape(read["dim"])
    if read["datatype"][0] not in TYPES:
        raise Illegal(f"data type {read['datatype'][0]}")
    offset = read["vox_offset"][0]
    if not FIRST_VOXEL[version] <= offset < 2**31:
        raise Illegal(f"voxels at {offset}")
    dtype = np.dtype(order + TYPES[read["datatype"][0]])
    if int(offset) + math.prod(shape) * dtype.itemsize > len(content):
        raise Illegal("too few bytes")
    stored: np.ndarray = np.ndarray(shape, dtype, buffer=content, offset=int(offset), order="F")
    (slope,), (intercept,) = read["scl_slope"], read["scl_inter"]
    scaled = slope != 0 and math.isfinite(slope) and (slope, intercept) != (1, 0)
    if scaled and not math.isfinite(intercept):
        raise Illegal("intercept")
    values = stored.astype(np.float64)
    with np.errstate(all="ignore"):
        values = values * np.float64(slope) + np.float64(intercept) if scaled else values
    return Decoded(stored, values, _affine(read), scaled)


def _kind(content: bytes) -> tuple[int, str]:
    for version in (1, 2):
        for order in "<>":
            if len(content) < SIZES[version]:
                continue
            at = FIELDS[version]["magic"][0]
            if (
                struct.unpack_from(order + "i", content)[0] == SIZES[version]
                and content[at : at + 3] == MAGIC[version]
            ):
                return version, order
    raise Illegal("no header")


def _shape(dim: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= dim[0] <= 7:
        raise Illegal(f"rank {dim[0]}")
    shape = dim[1 : dim[0] + 1]
    if min(shape) < 1:
        raise Illegal(f"shape {shape}")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) not in (3, 4):
        raise Illegal(f"shape {shape}")
    return shape


def _affine(read: dict[str, tuple[Any, ...]]) -> np.ndarray:
    """In mm: the sform if it has the voxel sizes of pixdim, else the qform, else the sform with those.

    A qform also takes the place of an sform without volume.
    """
    sizes = np.abs(np.array(read["pixdim"][1:4], float))
    sform = np.array([*read["srow"], 0, 0, 0, 1], float).reshape(4, 4)
    with np.errstate(all="ignore"):
        lengths = np.sqrt((sform[:3, :3] ** 2).sum(0))
        sized = bool((sizes > 0).all() and np.isfinite(sizes).all())
        agree = not sized or bool((abs(lengths - sizes) <= 0.01 * sizes).all())
        flat = np.isfinite(sform).all() and not abs(np.linalg.det(sform[:3, :3] / lengths)) >= 1e-6
        agree = agree and not (flat and read["qform_code"][0] > 0)
        if read["sform_code"][0] > 0 and (agree or not np.isfinite(sform).all()):
            affine = sform
        elif read["qform_code"][0] > 0:
            affine = _qform(read, sizes)
        elif read["sform_code"][0] > 0:
            affine = sform @ np.diag([*(sizes / lengths), 1])
        else:
            affine = np.diag([-sizes[0], -sizes[1], sizes[2], 1])
        affine = affine.astype(np.float32).astype(float)
        lengths = np.sqrt((affine[:3, :3] ** 2).sum(0))
        volume = abs(np.linalg.det(affine[:3, :3] / lengths)) if np.isfinite(affine).all() else math.nan
    if not np.isfinite(affine).all() or not volume > 0.9e-6:
        raise Illegal("affine")
    affine[:3] *= {1: 1000, 3: 0.001}.get(read["xyzt_units"][0] % 8, 1)
    return affine


def _qform(read: dict[str, tuple[Any, ...]], sizes: np.ndarray) -> np.ndarray:
    b, c, d = read["quatern"]
    rest = 1 - (b * b + c * c + d * d)
    if not rest > -1e-5 or read["pixdim"][0] not in (-1, 1):
        raise Illegal("quaternion")
    a = math.sqrt(max(rest, 0))
    b, c, d = (part / math.sqrt(max(1, 1 - rest)) for part in (b, c, d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
            [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
            [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - c * c - b * b],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn * (sizes * [1, 1, read["pixdim"][0]])
    affine[:3, 3] = read["qoffset"]
    return affine
