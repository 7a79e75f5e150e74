"""Medical Segmentation Decathlon (Antonelli et al. 2022): dataset.json lists images and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError
from coopseg.scans.discover import patient_and_phase, stem
from coopseg.scans.layouts.description import NAME, check_single_channel, described_labels, read_description
from coopseg.scans.types import Dataset, Labels, ScanRef

LOOKED_FOR = 'dataset.json with a list "training" of {"image": ..., "label": ...}'


def recognise(path: Path) -> bool:
    """Whether dataset.json lists training images."""
    entries = read_description(path)
    return entries is not None and isinstance(entries.get("training"), list)


def open_layout(path: Path, labels: Labels | None = None) -> Dataset:
    """Training items with their labels, then test items without, by file name.

    Raises CoopsegError for several modalities, an entry that cannot be read and a file that is not there.
    """
    entries = read_description(path)
    if entries is None:
        raise CoopsegError(f"{path}: no dataset.json; looked for {LOOKED_FOR}")
    check_single_channel(entries, path)
    items = [
        item
        for part in ("training", "test")
        for item in sorted(
            (_item(path, entry) for entry in entries.get(part, [])), key=lambda item: item.image
        )
    ]
    name = str(entries.get("name", path.name))
    return Dataset(name, path, "decathlon", labels or described_labels(entries, path), tuple(items))


def _item(path: Path, entry: Any) -> ScanRef:
    names = entry if isinstance(entry, dict) else {"image": entry}
    image, label = names.get("image"), names.get("label")
    if not isinstance(image, str) or not isinstance(label, str | None):
        raise CoopsegError(
            f'{path / NAME}: cannot read the entry {entry!r}; write {{"image": ..., "label": ...}}'
        )
    for file in (image, label):
        if file is not None and not (path / file).is_file():
            raise CoopsegError(
                f"{path / file}: not found, but {path / NAME} lists it; copy it or take it off the list"
            )
    patient, phase = patient_and_phase(stem(path / image))
    return ScanRef(patient, path / image, path / label if label is not None else None, phase)
