"""Reads and writes NIfTI files: whole, checked, and in their stored grid."""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Extensions, Nifti1Header
from numpy.typing import DTypeLike

from coopseg import __version__
from coopseg.errors import CoopsegError, enough_memory
from coopseg.scans.colours import label_table
from coopseg.scans.files import write_atomically
from coopseg.scans.header import HEADER_BYTES, Header, parse_header
from coopseg.scans.types import Scan
from coopseg.text import open_regular

GZIP = b"\x1f\x8b"
DEFLATE_RATIO = 1032  # most bytes out per byte in (zlib's technical notes)
SLACK = 2**20  # bytes that may follow the voxels; more than that is not a scan
START = 2**16  # bytes that are read for the header
PIECE = 2**14  # bytes unpacked at once; at the end of each member zlib copies the unused ones
MEMORY = 2**29  # bytes of memory that reading any file may take
EXPANSION = 200  # bytes of memory per byte of file, if that is more; a real image needs a tenth of it
LEVEL = 6  # of gzip, by default
OF_INTENSITIES = ("cal_min", "cal_max")  # fields of a header that do not hold for the labels of its image
IGNORED = 0  # the code of TotalSegmentator's extension; Connectome Workbench's own is 30
ROUNDING = 1e-4  # a float label this close to an integer is that integer
SCALED_ROUNDING = 0.1  # the most that half a slope may be, so that no label is near the next


def read_image(path: str | Path) -> Scan:
    """Reads an image as float32, (X, Y, Z) or (X, Y, Z, T), with slope and intercept applied.

    Two dimensions become (X, Y, 1). The affine leads to RAS+ millimetres, whatever the file's unit of length.
    The whole file is decompressed and its CRC checked. Raises CoopsegError for a file that is missing,
    truncated, damaged, not NIfTI, holds NaN or infinity, or is small but would fill the memory.

    >>> import coopseg, tempfile
    >>> folder = coopseg.write_phantom(tempfile.mkdtemp(), patients=1, size=48)["acdc"]
    >>> scan = read_image(folder / "patientP001" / "patientP001_frame01.nii.gz")
    >>> scan.data.shape[:2], scan.data.dtype, scan.spacing[2].item()
    ((48, 40), dtype('float32'), 10.0)
    """
    with enough_memory("reading", path):
        return _image(Path(path))


def _image(path: Path) -> Scan:
    stored, header = _load(path, working=lambda header: 8)
    data = np.empty(header.shape, np.float32, order="F")
    with np.errstate(all="ignore"):  # values that become infinite are refused below
        if header.scaling == (1, 0):
            data[...] = stored
        else:
            slope, intercept = map(np.float64, header.scaling)
            for last in range(header.shape[-1]):
                data[..., last] = stored[..., last] * slope + intercept
    if not np.isfinite(data).all():
        bad = int(data.size - np.isfinite(data).sum())
        raise CoopsegError(
            f"{path}: {bad} of {data.size} voxels are NaN or infinite; replace them and export again",
            rule="nan",
        )
    return Scan(data, header.affine, path, header.raw, header.notes)


def read_labels(path: Path) -> Scan:
    """Reads a label map with an integer dtype, (X, Y, Z) or (X, Y, Z, T).

    Labels stored as floats are accepted if every value is within 1e-4 of an integer, and so are integers with
    a slope that came from rounding them (see `_rounding`). Raises CoopsegError otherwise, and as `read_image`
    does.
    """
    with enough_memory("reading", path):
        return _labels(path)


def _labels(path: Path) -> Scan:
    stored, header = _load(path, working=lambda header: header.dtype.itemsize if _is_plain(header) else 24)
    if _is_plain(header):
        plain = stored.astype(stored.dtype.newbyteorder("="))
        return Scan(plain, header.affine, path, header.raw, header.notes)
    slope, intercept = map(np.float64, header.scaling)
    with np.errstate(all="ignore"):  # infinity minus infinity and overflow are refused below
        data = stored if header.scaling == (1, 0) else stored * slope + intercept
        rounded = np.rint(data)
        wrong = ~(np.abs(data - rounded) <= _rounding(stored, rounded, slope))  # true for NaN
    if wrong.any() or np.abs(rounded).max() > 2**31 - 1:
        found = data[wrong].flat[0] if wrong.any() else np.abs(rounded).max()
        raise CoopsegError(
            f"{path}: a label map holds the value {found}; labels must be integers; export them as such, or "
            "give the label map if this is an image",
            rule="label-values",
        )
    return Scan(rounded.astype(np.int32), header.affine, path, header.raw, header.notes)


def _rounding(stored: np.ndarray, rounded: np.ndarray, slope: np.float64) -> float:
    """Returns how far the labels of a file may lie from integers.

    A program that saves float labels 0, 1, 2 and 4 under a uint8 header picks a slope of 4/255, and 1 becomes
    1.0039: off by half a slope at most. That is no label map if two stored values give one label.
    """
    if stored.dtype.kind not in "iu" or not ROUNDING < abs(slope) / 2 <= SCALED_ROUNDING:
        return ROUNDING
    one_to_one = len(np.unique(stored)) == len(np.unique(rounded))
    return abs(slope) / 2 * (1 + ROUNDING) if one_to_one else ROUNDING


def read_header(path: Path) -> Header:
    """Reads shape, dtype and affine from the first bytes of the file; voxels are neither read nor checked."""
    with _opened(path) as file:
        return _read_header(file, path)


def write_labels(path: Path, labels: np.ndarray, *, like: Scan, names: Sequence[str] = ()) -> None:
    """Write class indices 0 to 255 as uint8 in the grid of `like`; never half a file.

    labels: (X, Y, Z), or (X, Y, Z, T) for a 4-D scan. names: of the indices, background first, which go with
    their colours into an extension of the header (see `label_table`). Geometry, units and times are those of
    the header of `like`, bit for bit. What its header says about intensities and in words is replaced, since
    it is of the image. Raises CoopsegError if the shapes differ or a value does not fit.
    """
    if labels.shape not in (like.data.shape[:3], like.data.shape):
        raise CoopsegError(
            f"{path}: labels of shape {labels.shape} for a scan of shape {like.data.shape[:3]}"
        )
    if labels.dtype.kind not in "biu" or (labels.size and not 0 <= labels.min() <= labels.max() <= 255):
        raise CoopsegError(f"{path}: labels must be integers from 0 to 255, found {labels.dtype}")
    header = _like(like.header, labels.shape) if like.header else new_header(like.affine, labels.shape)
    for key in OF_INTENSITIES:
        header[key] = 0
    header.set_data_dtype(np.uint8)
    header.set_intent("label")
    header["descrip"] = f"coopseg {__version__} label map".encode()
    extension = Nifti1Extension(IGNORED, label_table(names)) if names else None
    _save(path, header, labels.astype(np.uint8), extension=extension)


def write_image(
    path: Path, data: np.ndarray, *, affine: np.ndarray, dtype: DTypeLike = np.float32, level: int = LEVEL
) -> None:
    """Write (X, Y, Z) or (X, Y, Z, T) values, cast to `dtype` and not rescaled; never half a file.

    level: of gzip, 0 to 9; 0 keeps the checksum without compressing, for floats that hardly get smaller.
    """
    header = new_header(affine, data.shape)
    header.set_data_dtype(dtype)
    _save(path, header, np.asarray(data, dtype=dtype), level=level)


def write_scan(path: Path, scan: Scan, *, level: int = LEVEL) -> None:
    """Write a volume as it was read, or changed since, with the header that it was read with.

    Its values are stored unscaled in their own data type; all else of the header stays, bit for bit.
    level: see `write_image`.
    """
    assert scan.header is not None  # it was read from a file
    header = _like(scan.header, scan.data.shape)
    header.set_data_dtype(scan.data.dtype)
    _save(path, header, scan.data, level=level)


def _is_plain(header: Header) -> bool:
    return header.dtype.kind in "iu" and header.scaling == (1, 0)


def _load(path: Path, *, working: Callable[[Header], int]) -> tuple[np.ndarray, Header]:
    """Loads the stored voxels, read-only, and the header. working: bytes per voxel that the caller needs."""
    with _opened(path) as file:
        header = _read_header(file, path)
        most = 2 * (header.end + SLACK)  # gzip makes no file longer than what is in it, but for its members
        file.seek(0)
        raw = file.read(min(most + 1, os.fstat(file.fileno()).st_size))  # as many bytes are allocated first
    packed = raw[:2] == GZIP
    if header.end > len(raw) * (DEFLATE_RATIO if packed else 1):
        raise CoopsegError(
            f"{path}: truncated, {len(raw)} bytes cannot hold the {header.shape} voxels; copy it again",
            rule="truncated",
        )
    needed = header.end + header.voxels * working(header)
    if needed > max(MEMORY, EXPANSION * len(raw)):
        raise CoopsegError(
            f"{path}: {len(raw)} bytes would take {needed / 2**30:.1f} GiB of memory, so the {header.shape} "
            "voxels can hardly be a scan; export it again"
        )
    content = _unpack(raw, header.end + SLACK, path) if packed and len(raw) <= most else raw
    if len(content) < header.end:
        raise CoopsegError(
            f"{path}: truncated, {len(content)} bytes of {header.end}; copy or export it again",
            rule="truncated",
        )
    if len(content) > header.end + SLACK:
        raise CoopsegError(
            f"{path}: holds far more than the {header.shape} voxels of its header; export it again"
        )
    stored = np.frombuffer(content, header.dtype, header.voxels, header.offset)
    return stored.reshape(header.shape, order="F"), header


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Opens a scan; what goes wrong while it is read becomes a CoopsegError."""
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise CoopsegError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _read_header(file: IO[bytes], path: Path) -> Header:
    """Reads the header in the first bytes of a file."""
    raw = file.read(START)
    if not raw:
        raise CoopsegError(f"{path}: the file is empty; copy it again")
    head = bytes(_inflate(raw, HEADER_BYTES, path)[0]) if raw[:2] == GZIP else raw[:HEADER_BYTES]
    return parse_header(head, path)


def _unpack(raw: bytes, limit: int, path: Path) -> bytearray:
    """Unpacks all gzip members; more than `limit` bytes are cut; CRC and length are then not checked."""
    content, whole = _inflate(raw, limit + 1, path)
    if not whole and len(content) <= limit:
        raise CoopsegError(
            f"{path}: truncated gzip file, ends after {len(content)} bytes of content; copy it again",
            rule="truncated",
        )
    return content


def _inflate(raw: bytes, limit: int, path: Path) -> tuple[bytearray, bool]:
    """Unpacks gzip members in turn, up to `limit` bytes, and tells whether the last one is whole.

    wbits=31 makes zlib check each member's CRC and length.
    """
    content, place = bytearray(), 0
    member: Any = None
    while place < len(raw) and len(content) < limit:
        piece = raw[place : place + PIECE]
        if member is None:
            piece = piece.lstrip(b"\0")  # zero padding is allowed after a member
            place += min(PIECE, len(raw) - place) - len(piece)
            member = zlib.decompressobj(wbits=31) if piece else None
        if member is None:
            continue
        place += len(piece)
        try:
            content += member.decompress(piece, limit - len(content))
        except zlib.error as error:
            raise CoopsegError(f"{path}: damaged gzip file ({error}); copy it again") from None
        if member.eof:
            place -= len(member.unused_data)
            member = None
    return content, member is None


def new_header(affine: np.ndarray, shape: tuple[int, ...], *, step: float = 0) -> Nifti1Header:
    """Makes the header of a volume in mm. step: seconds between frames, 0 if they are not known."""
    header = Nifti1Header()
    header.set_data_shape(shape)
    header.set_slope_inter(1, 0)
    header.set_xyzt_units("mm", "sec" if step else "unknown")
    if step:
        header["pixdim"][4] = step
    header.set_sform(affine, code=1)
    # a qform is a rotation and cannot hold shear; code 0 then makes readers take the sform
    header.set_qform(affine, code=1 if _is_orthogonal(affine) else 0)
    return header


def _like(source: Nifti1Header, shape: tuple[int, ...]) -> Nifti1Header:
    """Copies all that a header says about place and time, and the sizes if they are those of `shape`."""
    header = source.as_byteswapped("<")
    if math.prod(header["dim"][1 : header["dim"][0] + 1].tolist()) != math.prod(shape):
        header.set_data_shape(shape)  # of a frame
    header.set_slope_inter(1, 0)
    for key in {"db_name", "aux_file"} & set(header.keys()):
        header[key] = b""
    return header


def _save(
    path: Path,
    header: Nifti1Header,
    data: np.ndarray,
    *,
    extension: Nifti1Extension | None = None,
    level: int = LEVEL,
) -> None:
    if not path.name.endswith((".nii", ".nii.gz")):
        raise CoopsegError(f"{path}: cannot be written, only .nii and .nii.gz can; change the name")
    extensions = Nifti1Extensions([extension] if extension else [])
    header["vox_offset"] = header.single_vox_offset + extensions.get_sizeondisk()
    buffer = io.BytesIO()
    buffer.write(header.binaryblock + bytes([len(extensions), 0, 0, 0]))
    extensions.write_to(buffer, byteswap=False)
    buffer.write(data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes(order="F"))
    content = buffer.getvalue()
    # mtime 0 and no file name: equal scans give equal files, so that a file's hash identifies it
    write_atomically(path, gzip.compress(content, level, mtime=0) if path.suffix == ".gz" else content)


def _is_orthogonal(affine: np.ndarray) -> bool:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(directions.T @ directions, np.eye(3), atol=1e-5))
