"""Loads all cases of a data set, with labels mapped by name, prepared, and kept on disk."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from coopseg.cases.lost import Lost
from coopseg.cases.prepare import Case, Record, prepare
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError, enough_memory
from coopseg.scans.files import write_atomically
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.types import Dataset, Labels, ScanRef
from coopseg.text import open_regular, read_bytes

PIPELINE = 4  # raise it whenever prepare() gives other results for the same input
DIGEST = 32  # bytes of SHA-256 of key and npz, before the npz: its CRC-32 does not cover its members' names
RECORD, LOST = TypeAdapter(Record), TypeAdapter(Lost)
log = logging.getLogger(__name__)


def case_key(files: Sequence[Path], context: object) -> str:
    """Returns the SHA-256 of the content of all files and of `context`.

    context: all else that decides the result, in types that JSON has.
    Raises CoopsegError for a file that cannot be read.
    """
    digest = hashlib.sha256(json.dumps([PIPELINE, context], sort_keys=True).encode())
    for path in files:
        try:
            with open_regular(path) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
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
        content = read_bytes(path) if path.exists() else None
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
            record=RECORD.validate_python(facts["record"]),
            warnings=tuple(facts["warnings"]),
            lost=LOST.validate_python(facts["lost"]),
        )


def _pack(case: Case) -> bytes:
    facts = json.dumps({"record": asdict(case.record), "warnings": case.warnings, "lost": asdict(case.lost)})
    arrays = {"image": case.image} if case.label is None else {"image": case.image, "label": case.label}
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array(facts), **arrays)  # type: ignore[arg-type]  # the stub sees allow_pickle
    return buffer.getvalue()


def load_cases(
    dataset: Dataset,
    settings: CaseSettings,
    *,
    names: tuple[str, ...],
    patients: Collection[str] | None = None,
    cache_dir: Path | None = None,
    canvas: tuple[int, int] | None = None,
) -> list[Case]:
    """Loads every case of a data set, or of some of its patients, in its order, with `ref` attached.

    names: class names in the order of the networks' outputs, background first; labels are mapped to
    them by name. canvas: see `prepare`. Raises CoopsegError for a patient that the data set lacks and for a
    volume without a label.
    """
    missing = sorted(set(patients or ()) - set(dataset.patients))
    if missing:
        raise CoopsegError(f"{dataset.root}: no such patients: {', '.join(missing)}; check the names")
    return [
        load_case(
            ref,
            dataset.labels,
            settings,
            names=names,
            cache_dir=cache_dir,
            canvas=canvas,
        )
        for ref in dataset.items
        if patients is None or ref.patient in patients
    ]


def load_case(
    ref: ScanRef,
    labels: Labels,
    settings: CaseSettings,
    *,
    names: tuple[str, ...],
    cache_dir: Path | None = None,
    canvas: tuple[int, int] | None = None,
) -> Case:
    """Loads one case with `ref` attached; arguments and errors are those of `load_cases`."""
    if ref.label is None:
        raise CoopsegError(f"{ref.image}: no label found beside it; add one or leave {ref.patient} out")
    context = {
        "settings": settings.model_dump(mode="json"),
        "labels": [labels.names, labels.values, names],
        "frame": ref.frame,
        "normalised": ref.normalised,
        "channels": ref.channels,
        "canvas": canvas,
    }

    def make() -> Case:
        scan, stored = load_scan(ref), load_label(ref)
        assert stored is not None  # there is a label
        label = labels_to_indices(stored.data, labels, names=names, path=stored.path)
        return prepare(scan, settings, label=label, names=names, normalised=ref.normalised, canvas=canvas)

    key = case_key([*ref.images, ref.label], context) if cache_dir is not None else ""
    with enough_memory("preparing", ref.image):
        return replace(cached(cache_dir, key, make), ref=ref)
