"""Lists the Medical Segmentation Decathlon (Antonelli et al. 2022): dataset.json lists images and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError
from coopseg.scans.discover import patient_and_phase, stem
from coopseg.scans.layouts.description import (
    NAME,
    Problems,
    check_single_channel,
    described_labels,
    described_name,
    keep,
    listed_file,
    read_description,
)
from coopseg.scans.types import Dataset, Labels, ScanRef
from coopseg.text import shorten

LOOKED_FOR = 'dataset.json with a list "training" of {"image": ..., "label": ...}'


def recognise(path: Path) -> bool:
    """Tells whether dataset.json lists training images."""
    entries = read_description(path)
    return entries is not None and isinstance(entries.get("training"), list)


def open_layout(path: Path, labels: Labels | None = None, problems: Problems = None) -> Dataset:
    """Lists training items with their labels, then test items without, each by file name.

    Raises CoopsegError for several modalities, an entry that cannot be read and a file that is not there.
    """
    entries = read_description(path)
    if entries is None:
        raise CoopsegError(f"{path}: no dataset.json; looked for {LOOKED_FOR}")
    with keep(problems):
        check_single_channel(entries, path)
    items = [item for part in ("training", "test") for item in _part(path, entries, part, problems)]
    name = described_name(entries, path, problems)
    return Dataset(name, path, "decathlon", labels or described_labels(entries, path, problems), tuple(items))


def _part(path: Path, entries: dict[str, Any], part: str, problems: Problems) -> list[ScanRef]:
    listed = entries.get(part, [])
    if not isinstance(listed, list):
        raise CoopsegError(f'{path / NAME}: "{part}" is {shorten(listed)}; write a list of files')
    items = []
    for entry in listed:
        with keep(problems):
            items.append(_item(path, entry))
    return sorted(items, key=lambda item: item.image)


def _item(path: Path, entry: Any) -> ScanRef:
    names = entry if isinstance(entry, dict) else {"image": entry}
    image, label = names.get("image"), names.get("label")
    if not isinstance(image, str) or not isinstance(label, str | None):
        raise CoopsegError(
            f'{path / NAME}: cannot read the entry {shorten(entry)}; write {{"image": ..., "label": ...}}'
        )
    file = listed_file(path, image)
    patient, phase = patient_and_phase(stem(file))
    return ScanRef(patient, file, listed_file(path, label) if label is not None else None, phase)
