"""Reads dataset.json, in which data sets describe themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError
from coopseg.scans.discover import is_lost
from coopseg.scans.files import is_file
from coopseg.scans.labels import make_labels
from coopseg.scans.layouts.found import Problems, keep
from coopseg.scans.types import BACKGROUND, Labels
from coopseg.text import read_json, shorten, whole_number

NAME = "dataset.json"
UNNAMED = Labels((BACKGROUND,), (0,))  # used if nothing says what the values mean


def read_description(folder: Path) -> dict[str, Any] | None:
    """Returns the entries of `folder`/dataset.json, None if there is no such file.

    Raises CoopsegError for anything but a JSON object.
    """
    path = folder / NAME
    if not path.exists() or path.is_dir():
        return None
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise CoopsegError(f"{path}: must hold a JSON object, found {type(entries).__name__}; correct it")
    return entries


def described_name(entries: dict[str, Any], folder: Path, problems: Problems = None) -> str:
    """Returns the name in dataset.json, else the folder's name.

    A name that is not text raises CoopsegError, or the error is added to `problems`.
    """
    name = entries.get("name", folder.name)
    if isinstance(name, str):
        return name
    with keep(problems):
        raise CoopsegError(f'{folder / NAME}: the "name" is {shorten(name)}; write it in quotes')
    return folder.name


def listed_file(folder: Path, name: str) -> Path:
    r"""Returns the path of a file that dataset.json lists; it must exist and lie, as written, in `folder`.

    "\" stands for "/" where the list was written on Windows. A link to nothing is returned as it is.
    Raises CoopsegError otherwise: a list from elsewhere must not choose files anywhere on this machine.
    Links within the folder were made by its owner and are followed.
    """
    where, path = folder / NAME, folder / name
    if "\\" in name and not is_file(path):
        path = folder / name.replace("\\", "/")
    for candidate in (path, path.resolve()) if Path(name).is_absolute() and is_file(path) else ():
        if candidate.is_relative_to(folder.resolve()):
            path = folder / candidate.relative_to(folder.resolve())
            break
    if not path.is_relative_to(folder) or ".." in path.relative_to(folder).parts:
        raise CoopsegError(f"{where}: lists {shorten(name)}, outside the data set; move the file into it")
    if not is_file(path) and not is_lost(path):
        shown = path if name.isprintable() and len(name) < 1000 else shorten(name)
        raise CoopsegError(
            f"{shown}: not found, but {where} lists it; copy it or take it off the list", rule="missing-file"
        )
    return path


def described_labels(entries: dict[str, Any], folder: Path, problems: Problems = None) -> Labels:
    """Reads labels from {"background": 0, "LV": 1} (nnU-Net v2) or {"0": "background", "1": "LV"} (others).

    Raises CoopsegError for regions (several values for a name), nnU-Net's "ignore" and any other form, or
    adds it to `problems` and returns `UNNAMED`.
    """
    with keep(problems):
        return _described_labels(entries, folder / NAME)
    return UNNAMED


def _described_labels(entries: dict[str, Any], path: Path) -> Labels:
    labels = entries.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise CoopsegError(f'{path}: no "labels"; write them as {{"labels": {{"background": 0, "LV": 1}}}}')
    pairs = []
    for key, entry in labels.items():
        if isinstance(entry, list):
            raise CoopsegError(
                f"{path}: label {shorten(key)} is a region of values {shorten(entry)}; "
                "only one value a label is read"
            )
        name, value = (key, entry) if isinstance(entry, int) else (entry, key)
        number = whole_number(value) if isinstance(value, str) else int(value)
        if not isinstance(name, str) or isinstance(value, bool) or number is None or number >= 2**31:
            raise CoopsegError(
                f'{path}: label {shorten(key)}: {shorten(entry)} is no name and value; write "LV": 1'
            )
        if name == "ignore":
            raise CoopsegError(
                f'{path}: the label "ignore" is not supported; fill in the unlabelled voxels first'
            )
        pairs.append((name, number))
    return make_labels(pairs, source=str(path))


def check_single_channel(entries: dict[str, Any], folder: Path) -> None:
    """Raise CoopsegError if the data set describes more than one image channel."""
    for key in ("channel_names", "modality"):
        channels = entries.get(key)
        if isinstance(channels, (dict, list)) and len(channels) > 1:
            found = f"{folder / NAME}: {len(channels)} channels under {key}"
            raise CoopsegError(f"{found}; only single-channel scans are supported, keep one of them")
