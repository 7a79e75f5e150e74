"""dataset.json: what nnU-Net, Decathlon and plain folders say about themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError
from coopseg.scans.labels import make_labels
from coopseg.scans.types import Labels

NAME = "dataset.json"


def read_description(folder: Path) -> dict[str, Any] | None:
    """The entries of `folder`/dataset.json, None where there is no such file.

    Raises CoopsegError for anything but a JSON object.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise CoopsegError(f"{path}: cannot be read as JSON ({error}); correct it") from None
    if not isinstance(entries, dict):
        raise CoopsegError(f"{path}: must hold a JSON object, found {type(entries).__name__}; correct it")
    return entries


def described_labels(entries: dict[str, Any], folder: Path) -> Labels:
    """Labels from {"background": 0, "LV": 1} (nnU-Net v2) or {"0": "background", "1": "LV"} (others).

    Raises CoopsegError for regions (several values for a name), nnU-Net's "ignore" and any other form.
    """
    path = folder / NAME
    labels = entries.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise CoopsegError(f'{path}: no "labels"; write them as {{"labels": {{"background": 0, "LV": 1}}}}')
    pairs = []
    for key, entry in labels.items():
        if isinstance(entry, list):
            raise CoopsegError(
                f'{path}: label "{key}" is a region of values {entry}; only one value a label is read'
            )
        name, value = (key, entry) if isinstance(entry, int) else (entry, key)
        if not isinstance(name, str) or not str(value).isdigit():
            raise CoopsegError(f'{path}: label "{key}": {entry!r} is no name and value; write "LV": 1')
        if name == "ignore":
            raise CoopsegError(
                f'{path}: the label "ignore" is not supported; fill in the unlabelled voxels first'
            )
        pairs.append((name, int(value)))
    return make_labels(pairs, source=str(path))


def check_single_channel(entries: dict[str, Any], folder: Path) -> None:
    """Raise CoopsegError where the data set describes more than one image channel."""
    for key in ("channel_names", "modality"):
        channels = entries.get(key)
        if isinstance(channels, (dict, list)) and len(channels) > 1:
            found = f"{folder / NAME}: {len(channels)} channels under {key}"
            raise CoopsegError(f"{found}; only single-channel scans are supported, keep one of them")
