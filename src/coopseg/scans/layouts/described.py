"""Lists what a dataset.json describes: nnU-Net's raw data, the Medical Segmentation Decathlon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError
from coopseg.scans.discover import alike, by_name, is_lost, missing_file, niftis_in, only_label
from coopseg.scans.files import is_file
from coopseg.scans.labels import make_labels
from coopseg.scans.layouts.found import Found, Layout, Problems, keep
from coopseg.scans.names import nfc, read_name, stem
from coopseg.scans.types import BACKGROUND, Labels, PassedOver, ScanRef
from coopseg.text import Json, read_json, shorten, whole_number

NAME = "dataset.json"
UNNAMED = Labels((BACKGROUND,), (0,))  # used if nothing says what the values mean


def read_description(folder: Path) -> Json | None:
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


def described_name(entries: Json, folder: Path, problems: Problems = None) -> str:
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
    if not is_file(path) and not is_lost(path) and (named := _same_to_the_eye(path)):
        path = named
    if not path.is_relative_to(folder) or ".." in path.relative_to(folder).parts:
        raise CoopsegError(f"{where}: lists {shorten(name)}, outside the data set; move the file into it")
    if not is_file(path) and not is_lost(path):
        shown = path if name.isprintable() and len(name) < 1000 else shorten(name)
        raise missing_file(path, shown, f"{where} lists it", "copy it or take it off the list")
    return path


def _same_to_the_eye(path: Path) -> Path | None:
    """Returns the file whose name differs from that of `path` in the form of Unicode alone."""
    there = alike(path)
    same = there is not None and nfc(there.name) == nfc(path.name)
    return there if same else None


def described_labels(entries: Json, folder: Path, problems: Problems = None) -> Labels:
    """Reads labels from {"background": 0, "LV": 1} (nnU-Net v2) or {"0": "background", "1": "LV"} (others).

    Raises CoopsegError for regions (several values for a name), nnU-Net's "ignore" and any other form, or
    adds it to `problems` and returns `UNNAMED`.
    """
    with keep(problems):
        return _described_labels(entries, folder / NAME)
    return UNNAMED


def _described_labels(entries: Json, path: Path) -> Labels:
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


def check_single_channel(entries: Json, folder: Path) -> None:
    """Raise CoopsegError if the data set describes more than one image channel."""
    for key in ("channel_names", "modality"):
        channels = entries.get(key)
        if isinstance(channels, (dict, list)) and len(channels) > 1:
            found = f"{folder / NAME}: {len(channels)} channels under {key}"
            raise CoopsegError(f"{found}; only single-channel scans are supported, keep one of them")


CHANNEL = re.compile(r"_(\d{4})$")
FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
LISTS = ("training", "test")


def _opened(path: Path, layout: Layout, problems: Problems) -> Json:
    entries = read_description(path)
    if entries is None:
        raise CoopsegError(f"{path}: no dataset.json; looked for {layout.looked_for}")
    with keep(problems):
        check_single_channel(entries, path)
    return entries


def _is_nnunet(path: Path) -> bool:
    files = niftis_in(path / "imagesTr") + niftis_in(path / "imagesTs")
    return (path / NAME).is_file() and any(CHANNEL.search(stem(file)) for file in files)


def _list_nnunet(path: Path, labels: Labels | None, problems: Problems) -> Found:
    """Lists training cases, then test cases, by name; "CASE_ED" and "CASE_frame01" belong to patient "CASE".

    dataset.json may be of version 1 or 2. Raises CoopsegError for several channels, labels that are regions,
    files without a channel number and labels without an image.
    """
    entries = _opened(path, NNUNET, problems)
    items: dict[str, list[ScanRef]] = {"Tr": [], "Ts": []}
    for part, own in items.items():
        drawn = by_name(path / f"labels{part}")
        for image in niftis_in(path / f"images{part}"):
            with keep(problems):
                own.append(_nnunet_item(image, drawn))
        for label in (file for files in drawn.values() for file in files):
            with keep(problems):
                raise CoopsegError(
                    f"{label}: a label without its image; add the image or remove the label",
                    rule="label-without-image",
                )
    return Found(
        described_name(entries, path, problems),
        labels or described_labels(entries, path, problems),
        items["Tr"] + items["Ts"],
        items["Ts"],
        [path / folder for folder in FOLDERS],
        lambda file: "" if file.parent.name in FOLDERS else "in a sub-folder",
    )


def _nnunet_item(image: Path, drawn: dict[str, list[Path]]) -> ScanRef:
    """Makes one volume, and takes its label out of `drawn`."""
    match = CHANNEL.search(stem(image))
    if match is None:
        raise CoopsegError(f"{image}: no channel number; nnU-Net names it {stem(image)}_0000.nii.gz")
    if match[1] != "0000":
        raise CoopsegError(f"{image}: channel {match[1]}; only single-channel scans are supported")
    case = stem(image)[: match.start()]
    named = read_name(case)
    label = only_label(drawn.pop(case, ()))
    return ScanRef(named.patient, image, label, named.phase, session=named.session)


NNUNET = Layout(
    "dataset.json with imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz", _is_nnunet, _list_nnunet
)


def _is_decathlon(path: Path) -> bool:
    entries = read_description(path)
    return entries is not None and isinstance(entries.get("training"), list)


def _list_decathlon(path: Path, labels: Labels | None, problems: Problems) -> Found:
    """Lists training items with their labels, then test items without, each by file name (Antonelli 2022).

    Raises CoopsegError for several modalities, an entry that cannot be read and a file that is not there.
    """
    entries = _opened(path, DECATHLON, problems)
    training, test = (_part(path, entries, part, problems) for part in LISTS)
    return Found(
        described_name(entries, path, problems),
        labels or described_labels(entries, path, problems),
        training + test,
        test,
        [path / folder for folder in FOLDERS],
        lambda file: f"not listed in {NAME}",
        list(_other_lists(path, entries)),
    )


def _part(path: Path, entries: Json, part: str, problems: Problems) -> list[ScanRef]:
    listed = entries.get(part, [])
    if not isinstance(listed, list):
        raise CoopsegError(f'{path / NAME}: "{part}" is {shorten(listed)}; write a list of files')
    items = []
    for entry in listed:
        with keep(problems):
            items.append(_decathlon_item(path, entry))
    return sorted(items, key=lambda item: item.image)


def _decathlon_item(path: Path, entry: Any) -> ScanRef:
    names = entry if isinstance(entry, dict) else {"image": entry}
    image, label = names.get("image"), names.get("label")
    if not isinstance(image, str) or not isinstance(label, str | None):
        raise CoopsegError(
            f'{path / NAME}: cannot read the entry {shorten(entry)}; write {{"image": ..., "label": ...}}'
        )
    file = listed_file(path, image)
    named = read_name(stem(file))
    drawn = listed_file(path, label) if label is not None else None
    return ScanRef(named.patient, file, drawn, named.phase, session=named.session)


def _other_lists(path: Path, entries: Json) -> Iterator[PassedOver]:
    """Yields the images and labels in lists of other names, such as "validation", and says that folds are."""
    training = entries.get("training", [])
    if any(isinstance(each, dict) and "fold" in each for each in training):
        yield PassedOver(path / NAME, "folds of its entries; list patients in a --split file to use them")
    for part, listed in entries.items():
        if part in LISTS or not isinstance(listed, list):
            continue
        for entry in (each for each in listed if isinstance(each, dict) and "image" in each):
            reason = f"in the list {shorten(part)}; only training and test are read"
            yield PassedOver(path / str(entry["image"]), reason)
            if "label" in entry:
                yield PassedOver(path / str(entry["label"]), reason)


DECATHLON = Layout(
    'dataset.json with a list "training" of {"image": ..., "label": ...}', _is_decathlon, _list_decathlon
)
