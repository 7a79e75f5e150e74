"""Ways in which files go wrong, each a function of (content, generator)."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable

import numpy as np
from plain_nifti import FIELDS, write_field

Generator = np.random.Generator
Damage = Callable[[bytes, Generator], bytes]


def place(content: bytes, generator: Generator) -> int:
    """Often near an end, where headers and checksums are."""
    length = len(content)
    near = min(length, int(generator.choice([20, 400, length])))
    offset = int(generator.integers(near))
    return offset if generator.random() < 0.7 else length - 1 - offset


def truncate(content: bytes, generator: Generator) -> bytes:
    return content[: place(content, generator)]


def flip(content: bytes, generator: Generator) -> bytes:
    spoiled = bytearray(content)
    for _ in range(int(generator.choice([1, 1, 2, 8]))):
        spoiled[place(content, generator)] ^= 1 << int(generator.integers(8))
    return bytes(spoiled)


def zero(content: bytes, generator: Generator) -> bytes:
    start = place(content, generator)
    stop = min(len(content), start + int(generator.integers(1, 200)))
    return content[:start] + bytes(stop - start) + content[stop:]


def splice(content: bytes, generator: Generator) -> bytes:
    """A run left out, doubled, or moved."""
    start = place(content, generator)
    run = content[start : start + int(generator.integers(1, 300))]
    rest = content[:start] + content[start + len(run) :]
    to = place(content, generator) if rest else 0
    return [rest, content[:to] + run + content[to:], rest[:to] + run + rest[to:]][int(generator.integers(3))]


def append(content: bytes, generator: Generator) -> bytes:
    junk = generator.bytes(int(generator.integers(1, 600)))
    return content + [junk, junk[:1], b"\n", b"\x1f", content[:30]][int(generator.integers(5))]


def noise(content: bytes, generator: Generator) -> bytes:
    kinds = (b"", b"this is no scan\n" * 40, generator.bytes(len(content)), bytes(1000), b"\x1f\x8b")
    return kinds[int(generator.integers(len(kinds)))]


BYTES: dict[str, Damage] = {
    "truncate": truncate, "flip": flip, "zero": zero, "splice": splice, "append": append, "noise": noise,
}  # fmt: skip

SMALL = (-32768, -1, 0, 1, 2, 3, 4, 7, 8, 16, 64, 255, 768, 1280, 32767)
REAL = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1.0, 1e-45, 1e-9, 1e9, 3e38, -3e38, 352.0, 353.5, 16.0, 2.0**31)
LIMITS = {"h": 15, "i": 31, "q": 63, "B": 8}


def header_field(content: bytes, generator: Generator, *, version: int, order: str) -> bytes:
    """One to three fields of an uncompressed file set to extremes."""
    spoiled = bytearray(content)
    for _ in range(int(generator.integers(1, 4))):
        name = str(generator.choice(list(FIELDS[version])))
        offset, form = FIELDS[version][name]
        size = struct.calcsize(order + form)
        if form[-1] == "s":
            spoiled[offset : offset + 4] = [b"n+1\0", b"ni1\0", b"n+2\0", b"\0\0\0\0"][
                int(generator.integers(4))
            ]
        elif form[-1] in "fd":
            values = list(struct.unpack_from(order + form, content, offset))
            values[int(generator.integers(len(values)))] = float(generator.choice(REAL))
            write_field(spoiled, version, order, name, tuple(values))
        else:
            values = list(struct.unpack_from(order + form, content, offset))
            bits = LIMITS[form[-1]]
            wild = (*SMALL, 2**bits - 1, -(2**bits), int(generator.integers(1, 12)))
            value = int(generator.choice(np.array(wild, dtype=object)))
            low, high = (0, 255) if form == "B" else (-(2**bits), 2**bits - 1)
            values[int(generator.integers(len(values)))] = min(max(value, low), high)
            write_field(spoiled, version, order, name, tuple(values))
        assert len(spoiled) == len(content), (name, size)
    return bytes(spoiled)


def byte_order(content: bytes, generator: Generator) -> bytes:
    """The first field alone, or the whole header block of 16-bit words, the other way round."""
    if generator.random() < 0.5:
        return content[3::-1] + content[4:]
    words = np.frombuffer(content[:348], "u2").byteswap().tobytes()
    return words + content[348:]


def wrong_crc(packed: bytes, generator: Generator) -> bytes:
    return packed[:-8] + generator.bytes(4) + packed[-4:]


def wrong_length(packed: bytes, generator: Generator) -> bytes:
    return packed[:-4] + struct.pack("<I", int(generator.integers(2**32)))


def raw_deflate(packed: bytes, generator: Generator) -> bytes:
    content = gzip.decompress(packed)
    bare = zlib.compressobj(wbits=-15)
    deflated = bare.compress(content) + bare.flush()
    return [deflated, zlib.compress(content), gzip.compress(packed)][int(generator.integers(3))]


def gzip_flags(packed: bytes, generator: Generator) -> bytes:
    spoiled = bytearray(packed)
    spoiled[int(generator.integers(2, 10))] = int(generator.integers(256))
    return bytes(spoiled)


def stored_flip(packed: bytes, generator: Generator) -> bytes:
    """Content that was not compressed: only the CRC can tell."""
    return flip(gzip.compress(gzip.decompress(packed), 0), generator)


def cut_member(packed: bytes, generator: Generator) -> bytes:
    content = gzip.decompress(packed)
    at = int(generator.integers(len(content)))
    second = gzip.compress(content[at:])
    return gzip.compress(content[:at]) + second[: int(generator.integers(len(second)))]


def bomb(packed: bytes, generator: Generator) -> bytes:
    """Much more than the header claims."""
    return packed + gzip.compress(bytes(int(generator.integers(2**20, 2**24))))


GZIP: dict[str, Damage] = {
    "wrong-crc": wrong_crc, "wrong-length": wrong_length, "raw-deflate": raw_deflate, "flags": gzip_flags,
    "stored-flip": stored_flip, "cut-member": cut_member, "bomb": bomb,
}  # fmt: skip


def members(packed: bytes, generator: Generator) -> bytes:
    """Several members and padding: the same content."""
    content = gzip.decompress(packed)
    cuts = sorted(int(cut) for cut in generator.integers(len(content), size=int(generator.integers(1, 40))))
    parts = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    return b"".join(gzip.compress(part) for part in parts) + bytes(int(generator.integers(3)) * 512)


def named_member(packed: bytes, generator: Generator) -> bytes:
    """A gzip header with a file name, a comment and an extra field: the same content."""
    extra = struct.pack("<H", 5) + b"extra" + b"name.nii\0" + b"comment\0"
    return packed[:3] + b"\x1c" + packed[4:10] + extra + packed[10:]


def unpacked(packed: bytes, generator: Generator) -> bytes:
    """A name that ends in .gz does not make it gzip: the same content."""
    return gzip.decompress(packed)


LEGAL: dict[str, Damage] = {"members": members, "named-member": named_member, "unpacked": unpacked}
