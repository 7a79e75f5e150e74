"""Keeps prepared cases on disk, keyed by everything that went into them."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from coopseg.cases.prepare import Case
from coopseg.cases.record import Record
from coopseg.errors import CoopsegError
from coopseg.scans.files import write_atomically

PIPELINE = 1  # raise it whenever prepare() gives other results for the same input
DIGEST = 32  # bytes of SHA-256 of key and npz, before the npz: its CRC-32 does not cover its members' names
log = logging.getLogger(__name__)


def case_key(files: Sequence[Path], context: object) -> str:
    """Returns the SHA-256 of the content of all files and of `context`.

    context: all else that decides the result, in types that JSON has.
    Raises CoopsegError for a file that cannot be read.
    """
    digest = hashlib.sha256(json.dumps([PIPELINE, context], sort_keys=True).encode())
    for path in files:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise CoopsegError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    return digest.hexdigest()


def cached(folder: Path | None, key: str, make: Callable[[], Case]) -> Case:
    """Returns the case stored under `key` in `folder`, or `make()`, which is stored for the next time.

    An entry that is damaged or belongs to another key is logged and made anew. folder None: nothing is
    read or stored. Raises CoopsegError if the folder cannot be used.
    """
    if folder is None:
        return make()
    path = folder / f"{key}.case"
    try:
        content = path.read_bytes() if path.exists() else None
        if content is not None and _digest(key, content[DIGEST:]) == content[:DIGEST]:
            return _unpack(content[DIGEST:])
        if content is not None:
            log.warning("%s: damaged cache entry, computed anew", path)
        case = make()
        packed = _pack(case)
        write_atomically(path, _digest(key, packed) + packed)
    except OSError as error:
        raise CoopsegError(
            f"{path}: cannot be used as a cache entry ({error.strerror}); choose another --cache"
        ) from None
    return case


def _digest(key: str, packed: bytes) -> bytes:
    return hashlib.sha256(key.encode() + packed).digest()


def _unpack(content: bytes) -> Case:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        facts = json.loads(str(stored["facts"]))
        return Case(
            image=stored["image"],
            label=stored.get("label"),
            record=Record.from_dict(facts["record"]),
            warnings=tuple(facts["warnings"]),
        )


def _pack(case: Case) -> bytes:
    facts = json.dumps({"record": case.record.to_dict(), "warnings": case.warnings})
    arrays = {"image": case.image} if case.label is None else {"image": case.image, "label": case.label}
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array(facts), **arrays)  # type: ignore[arg-type]  # the stub sees allow_pickle
    return buffer.getvalue()
