"""Prepared cases kept on disk, found again by what went into them."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from coopseg.cases.prepare import Case
from coopseg.cases.record import Record
from coopseg.scans.files import write_atomically

PIPELINE = 1  # raise it whenever prepare() gives other results for the same input
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
    path = folder / f"{key}.npz"
    if path.is_file():
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            log.warning("%s: damaged cache entry (%s), computed anew", path, error)
    case = make()
    _write(path, case)
    return case


def _read(path: Path) -> Case:
    with np.load(path, allow_pickle=False) as stored:  # the zip's CRC-32 is checked on the way
        facts = json.loads(str(stored["facts"]))
        return Case(
            image=stored["image"],
            label=stored.get("label"),
            record=Record.from_dict(facts["record"]),
            warnings=tuple(facts["warnings"]),
        )


def _write(path: Path, case: Case) -> None:
    facts = json.dumps({"record": case.record.to_dict(), "warnings": case.warnings})
    arrays = {"image": case.image} if case.label is None else {"image": case.image, "label": case.label}
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array(facts), **arrays)  # type: ignore[arg-type]  # the stub sees allow_pickle
    write_atomically(path, buffer.getvalue())
