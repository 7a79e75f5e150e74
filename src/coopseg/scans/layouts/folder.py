"""Lists a plain folder: images/X.nii.gz with labels/X.nii.gz, or X.nii.gz with X_gt.nii.gz beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.scans.discover import LABEL_MARKS, niftis_in, only_label, unmarked
from coopseg.scans.labels import MOST_LABELS
from coopseg.scans.layouts.described import (
    NAME,
    UNNAMED,
    UNNAMED_CHANNEL,
    described_channels,
    described_labels,
    described_name,
    listed_file,
    read_description,
)
from coopseg.scans.layouts.found import Found, Layout, Problems, keep
from coopseg.scans.names import Named, nfc, read_name, stem
from coopseg.scans.nifti import read_labels
from coopseg.scans.types import BACKGROUND, Labels, PassedOver, ScanRef
from coopseg.text import listing, shorten

ITEM_KEYS = {
    "image": str, "label": str, "patient": str, "session": str, "phase": str, "site": str, "copy": int,
    "more": list,
}  # fmt: skip


def _recognise(path: Path) -> bool:
    """Tells whether there is a NIfTI file in `path` or `path`/images, or a dataset.json with items."""
    entries = read_description(path)
    return bool(niftis_in(path) or niftis_in(path / "images") or (entries and "items" in entries))


def _list(path: Path, labels: Labels | None, problems: Problems) -> Found:
    """Lists volumes by image path; a volume without a label file has the label None.

    dataset.json may hold: name; labels {name: value}; normalised (true: intensities already lie in [0, 1]);
    items [{image, label, patient, session, phase, site, copy, more}], paths relative to the folder, in place
    of file names. channel_names {"0": name, "1": name}, if each item also has a list "more" of the files of
    further channels.
    If neither `labels` nor dataset.json names the values, those in the label files become "label1", ...
    Raises CoopsegError for a label file without its image, for two label files of one image and for an item
    that cannot be read.
    """
    entries = read_description(path) or {}
    normalised = entries.get("normalised", False)
    if not isinstance(normalised, bool):
        with keep(problems):
            raise CoopsegError(f'{path / NAME}: "normalised" is {shorten(normalised)}; write true or false')
        normalised = False
    channels = described_channels(entries, path, problems) if "items" in entries else UNNAMED_CHANNEL
    if "items" in entries:
        listed = entries["items"] if isinstance(entries["items"], list) else [entries["items"]]
        items = []
        for entry in listed:
            with keep(problems):
                items.append(_listed(path, entry, normalised, channels))
    else:
        items = [_named(image, label, normalised) for image, label in _pairs(path, problems)]
    items.sort(key=lambda item: (item.image, item.copy))
    if labels is None and "labels" in entries:
        labels = described_labels(entries, path, problems)
    elif labels is None:
        labels = _found_labels(items) if problems is None else UNNAMED
    parted = (path / "images").is_dir()
    places = [path / "images", path / "labels"] if parted else [path]
    beside = [PassedOver(file, "beside images/, not in it") for file in niftis_in(path) if parted]
    if "items" in entries:
        used = {file for item in items for file in (*item.images, item.label)}
        beside = [entry for entry in beside if entry.path not in used]
    name = described_name(entries, path, problems)
    why = partial(_why_not, None if "items" in entries else places)
    return Found(name, labels, items, (), places, why, beside, channels)


def _why_not(read: Sequence[Path] | None, file: Path) -> str:
    """Says why a file is not used. read: folders of which every file is; None if dataset.json lists files."""
    if read is None:
        return f"not listed in {NAME}"
    return "" if file.parent in read else "in a sub-folder"


def _listed(path: Path, entry: Any, normalised: bool, channels: Sequence[str]) -> ScanRef:
    where = path / NAME
    if not isinstance(entry, dict) or "image" not in entry:
        raise CoopsegError(
            f'{where}: cannot read the item {shorten(entry)}; write {{"image": ..., "label": ..., ...}}'
        )
    wrong = [key for key, value in entry.items() if not _acceptable(key, value)]
    if wrong:
        found = ", ".join(f"{listing([key])}: {shorten(entry[key])}" for key in wrong[:3])
        raise CoopsegError(
            f"{where}: item {shorten(entry['image'])} has {found}; known keys: {', '.join(ITEM_KEYS)}"
        )
    image = listed_file(path, entry["image"])
    more = tuple(listed_file(path, str(name)) for name in entry.get("more", ()))
    if len(more) + 1 != len(channels):
        raise CoopsegError(
            f'{where}: item {shorten(entry["image"])} has {len(more) + 1} channels ("image" and "more"), but '
            f"channel_names {len(channels)}; correct the one or the other"
        )
    label = listed_file(path, entry["label"]) if entry.get("label") else None
    named = read_name(stem(image)) if "patient" not in entry else Named(nfc(entry["patient"]), "", "")
    return ScanRef(
        patient=named.patient,
        image=image,
        label=label,
        session=entry.get("session", named.session),
        phase=entry.get("phase", named.phase),
        site=entry.get("site", ""),
        copy=entry.get("copy", 0),
        normalised=normalised,
        more=more,
    )


def _acceptable(key: str, value: Any) -> bool:
    return (key == "label" and value is None) or (key in ITEM_KEYS and isinstance(value, ITEM_KEYS[key]))


def _named(image: Path, label: Path | None, normalised: bool) -> ScanRef:
    named = read_name(stem(image))
    return ScanRef(named.patient, image, label, named.phase, normalised=normalised, session=named.session)


def _pairs(path: Path, problems: Problems) -> list[tuple[Path, Path | None]]:
    parted = (path / "images").is_dir()
    images = niftis_in(path / "images") if parted else [f for f in niftis_in(path) if not unmarked(f)]
    drawn: dict[str, list[Path]] = {}
    for label in niftis_in(path / "labels" if parted else path):
        if parted or unmarked(label):
            drawn.setdefault(stem(label) if parted else str(unmarked(label)), []).append(label)
    pairs = []
    for image in images:
        with keep(problems):
            pairs.append((image, only_label(drawn.pop(stem(image), ()))))
    for label in (file for files in drawn.values() for file in files):
        with keep(problems):
            raise CoopsegError(
                f"{label}: a label without its image; add the image or remove the label",
                rule="label-without-image",
            )
    return pairs


def _found_labels(items: list[ScanRef]) -> Labels:
    values: set[int] = set()
    for item in items:
        if item.label is not None:
            values.update(np.unique(read_labels(item.label).data).tolist())
            if len(values) > MOST_LABELS:
                raise CoopsegError(
                    f"{item.label}: more than {MOST_LABELS} values so far, as of an image; give label maps"
                )
    found = sorted(values - {0})
    if found and found[0] < 0:
        raise CoopsegError(
            f"{items[0].image.parent}: label files hold the negative value {found[0]}; correct them"
        )
    return Labels((BACKGROUND, *(f"label{value}" for value in found)), (0, *found))


FOLDER = Layout(
    "images/X.nii.gz with labels/X.nii.gz, "
    f"X.nii.gz with {', '.join(f'X{mark}' for mark in LABEL_MARKS)} beside it, or {NAME} with items",
    _recognise,
    _list,
)
