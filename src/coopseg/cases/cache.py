"""Prepared cases kept on disk, found again by what went into them."""

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
from coopseg.scans.files import write_atomically

PIPELINE = 1  # raise it whenever prepare() gives other results for the same input
DIGEST = 32  # bytes of SHA-256 before the npz: its own CRC-32 does not cover the names of its members
log = logging.getLogger(__name__)


def case_key(files: Sequence[Path], context: object) -> str:
    """SHA-256 of the content of all files and of `context`: whatever else decides the result, as JSON."""
    digest = hashlib.sha256(json.dumps([PIPELINE, context], sort_keys=True).encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def cached(folder: Path | None, key: str, make: Callable[[], Case]) -> Case:
    """The case stored under `key` in `folder`, or `make()`, stored for the next time.

    A damaged entry is reported to the log and made anew. folder None: nothing is read or stored.
    """
    if folder is None:
        return make()
    path = folder / f"{key}.case"
    if path.is_file():
        content = path.read_bytes()
        if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
            return _unpack(content[DIGEST:])
        log.warning("%s: damaged cache entry, computed anew", path)
    case = make()
    packed = _pack(case)
    write_atomically(path, hashlib.sha256(packed).digest() + packed)
    return case


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
