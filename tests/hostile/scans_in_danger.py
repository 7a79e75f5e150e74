"""Damaged scans: each is refused in a line, or read as exactly what its bytes say."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from damage import BYTES, GZIP, LEGAL, Generator, byte_order, header_field
from plain_nifti import Decoded, Illegal, decode, encode
from verdict import REFUSED, refusal_of

from coopseg.scans.nifti import read_header, read_image, read_labels

TURNED = {
    "sform_code": 0,
    "qform_code": 1,
    "quatern": (0.5, 0.5, 0.5),
    "pixdim": (-1.0, 1.5, 1.25, 8, 1, 0, 0, 0),
}
BASES: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("i2", (12, 10, 6), {}),
    ("u1", (9, 11, 5), {"sform_code": 0}),
    ("i2", (8, 7, 4, 3), {"order": ">"}),
    ("f4", (10, 9, 4), {"version": 2}),
    ("i4", (7, 8, 5), {"version": 2, "order": ">", **TURNED}),
    ("u2", (11, 6, 4), {"scl_slope": 2.0, "scl_inter": -1.0}),
    ("f8", (6, 7, 3), {"order": ">", "scl_slope": -3.0}),
    ("i2", (9, 9, 1), {**TURNED, "scl_slope": 0.0}),
    ("f4", (6, 5, 4, 2), {"scl_slope": float("nan"), "scl_inter": float("nan")}),
    ("i1", (5, 8, 6), {"srow": (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)}),
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """An undamaged file: uncompressed, and how it was written."""

    content: bytes
    version: int
    order: str


def bases() -> list[Base]:
    """Small scans of every kind that is read; voxels are whole numbers, so that they are label maps too."""
    generator = np.random.default_rng(5)
    made = []
    for dtype, shape, fields in BASES:
        voxels = generator.integers(0, 5, shape).astype(dtype)
        made.append(Base(encode(voxels, **fields), fields.get("version", 1), fields.get("order", "<")))
    return made


def spoil(base: Base, generator: Generator) -> tuple[str, bytes, bool]:
    """(kind, file, whether it still has to be read)."""
    inside = {
        "header": lambda content, generator: header_field(
            content, generator, version=base.version, order=base.order
        ),
        "byte-order": byte_order,
        **BYTES,
    }
    packed = gzip.compress(base.content, int(generator.choice([0, 1, 6])), mtime=0)
    group = str(
        generator.choice(["plain", "inside", "packed", "gzip", "legal"], p=[0.25, 0.3, 0.25, 0.12, 0.08])
    )
    damages: dict[str, Any] = {
        "plain": inside,
        "inside": inside,
        "packed": BYTES,
        "gzip": GZIP,
        "legal": LEGAL,
    }
    names = list(damages[group])
    weights = np.array([6.0 if name == "header" else 1.0 for name in names])
    name = str(generator.choice(names, p=weights / weights.sum()))
    spoiled = damages[group][name](base.content if damages[group] is inside else packed, generator)
    return f"{group}/{name}", gzip.compress(spoiled) if group == "inside" else spoiled, group == "legal"


def check(path: Path, base: Base, generator: Generator) -> tuple[str, str]:
    """Spoil a scan, read it in all ways; (kind, verdict). Raises AssertionError where it is read wrongly."""
    kind, raw, legal = spoil(base, generator)
    path.write_bytes(raw)
    expected = reference(raw)
    refusal_of(read_header, path)
    image, labels = refusal_of(read_image, path), refusal_of(read_labels, path)
    for found in (image, labels):
        assert not (legal and found is REFUSED), f"{kind}: a sound file was refused"
        assert found is REFUSED or expected is not None, f"{kind}: a damaged file was read"
    if expected is not None and image is not REFUSED:
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(image.data, expected.values.astype(np.float32))
        assert np.isfinite(image.data).all()
        np.testing.assert_allclose(image.affine, expected.affine, rtol=1e-5, atol=1e-6 * scale(expected))
    if expected is not None and labels is not REFUSED:
        whole = expected.stored.dtype.kind in "iu" and not expected.scaled
        np.testing.assert_array_equal(labels.data, expected.stored if whole else np.rint(expected.values))
        assert labels.data.dtype.kind in "iu"
    return kind, "refused" if image is REFUSED else "read"


def scale(decoded: Decoded) -> float:
    return float(np.abs(decoded.affine).max())


def reference(raw: bytes) -> Decoded | None:
    """What Python's own gzip and the standard make of a file, None where they refuse it."""
    try:
        return decode(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (OSError, EOFError, zlib.error, Illegal):
        return None
