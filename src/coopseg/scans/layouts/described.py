"""Lists what a dataset.json describes: nnU-Net's raw data, the Medical Segmentation Decathlon."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError
from coopseg.scans.colours import JSON as LABEL_NAMES
from coopseg.scans.discover import alike, by_name, is_lost, missing_file, niftis_in, only_label
from coopseg.scans.files import is_file
from coopseg.scans.labels import make_labels
from coopseg.scans.layouts.found import Found, Layout, Problems, keep
from coopseg.scans.names import nfc, read_name, stem
from coopseg.scans.types import BACKGROUND, Labels, PassedOver, ScanRef
from coopseg.text import Json, counted, read_json, shorten, whole_number

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


def labels_beside(folder: Path) -> Labels | None:
    """Reads what values mean from the file that a program left beside its label maps; None without one.

    `coopseg predict` writes labels.json, nnU-Net dataset.json. Raises CoopsegError if it cannot be read.
    """
    file = folder / LABEL_NAMES
    if file.is_file():
        try:
            pairs = [(str(entry["name"]), int(entry["value"])) for entry in read_json(file)["labels"]]
        except (TypeError, KeyError, ValueError, OverflowError):
            raise CoopsegError(f"{file}: cannot be read; name the values with --labels") from None
        return make_labels(pairs, source=str(file))
    entries = read_description(folder)
    return described_labels(entries, folder) if entries and "labels" in entries else None


CHANNEL_KEYS = ("channel_names", "modality")
UNNAMED_CHANNEL = ("",)


def described_channels(entries: Json, folder: Path, problems: Problems = None) -> tuple[str, ...]:
    """Reads the names of an image's channels from {"0": "T2", "1": "ADC"} or a list of them.

    nnU-Net calls the entry channel_names, others modality; without one there is one channel without a name.
    Raises CoopsegError for any other form, or adds it to `problems`.
    """
    for key in CHANNEL_KEYS:
        found = entries.get(key)
        if isinstance(found, list):
            found = {str(number): name for number, name in enumerate(found)}
        if not isinstance(found, dict) or not found:
            continue
        names = [found.get(str(number)) for number in range(len(found))] if len(found) > 1 else found.values()
        if all(isinstance(name, str) for name in names):
            return tuple(map(str, names))
        with keep(problems):
            raise CoopsegError(
                f'{folder / NAME}: "{key}" is {shorten(found)}; number the channels from 0, as '
                '{"0": "T2", "1": "ADC"}'
            )
    return UNNAMED_CHANNEL


CHANNEL = re.compile(r"_(\d{4})$")
FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
LISTS = ("training", "test")


def _opened(path: Path, layout: Layout, problems: Problems) -> tuple[Json, tuple[str, ...]]:
    """Returns the entries of dataset.json and the names of the channels."""
    entries = read_description(path)
    if entries is None:
        raise CoopsegError(f"{path}: no dataset.json; looked for {layout.looked_for}")
    return entries, described_channels(entries, path, problems)


def _is_nnunet(path: Path) -> bool:
    files = niftis_in(path / "imagesTr") + niftis_in(path / "imagesTs")
    return (path / NAME).is_file() and any(CHANNEL.search(stem(file)) for file in files)


def _list_nnunet(path: Path, labels: Labels | None, problems: Problems) -> Found:
    """Lists training cases, then test cases, by name; "CASE_ED" and "CASE_frame01" belong to patient "CASE".

    dataset.json may be of version 1 or 2. Raises CoopsegError for labels that are regions, files without a
    channel number, channels that dataset.json does not name or that lack a file, and labels without an image.
    """
    entries, channels = _opened(path, NNUNET, problems)
    items: dict[str, list[ScanRef]] = {"Tr": [], "Ts": []}
    for part, own in items.items():
        drawn = by_name(path / f"labels{part}")
        for images in _by_case(path / f"images{part}", problems).values():
            with keep(problems):
                own.append(_nnunet_item(images, drawn, channels))
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
        channels=channels,
    )


def _by_case(folder: Path, problems: Problems) -> dict[str, list[Path]]:
    """Groups the images of a folder by case, each with its channels in order."""
    cases: dict[str, list[Path]] = {}
    for image in niftis_in(folder):
        with keep(problems):
            match = CHANNEL.search(stem(image))
            if match is None:
                raise CoopsegError(f"{image}: no channel number; nnU-Net names it {stem(image)}_0000.nii.gz")
            cases.setdefault(stem(image)[: match.start()], []).append(image)
    return cases


def _nnunet_item(images: Sequence[Path], drawn: dict[str, list[Path]], channels: tuple[str, ...]) -> ScanRef:
    """Makes one volume of the files of its channels, and takes its label out of `drawn`."""
    case = CHANNEL.sub("", stem(images[0]))
    label = only_label(drawn.pop(case, ()))
    files = pick_channels(images, len(channels), wanted_by=f"{NAME} names")
    named = read_name(case)
    return ScanRef(named.patient, files[0], label, named.phase, session=named.session, more=files[1:])


def pick_channels(images: Sequence[Path], count: int, *, wanted_by: str) -> tuple[Path, ...]:
    """Returns the files CASE_0000, CASE_0001, ... of a case's `count` channels, in order.

    wanted_by: who wants them, for messages. Raises CoopsegError if one of them is not there or is there
    twice, and for others beside them.
    """
    wanted = {f"{number:04d}": number for number in range(count)}
    files: dict[int, Path] = {}
    for image in images:
        match = CHANNEL.search(stem(image))
        number = wanted.get(match[1]) if match else None
        if number is None or number in files:
            found = f"channel {match[1]}" if match else "no channel number"
            raise CoopsegError(
                f"{image}: {found}, but {wanted_by} {counted(count, 'channel')}, each in a file of its own; "
                "correct the one or the other"
            )
        files[number] = image
    if missing := [number for number in range(count) if number not in files]:
        case = CHANNEL.sub("", stem(images[0]))
        raise CoopsegError(
            f"{images[0].parent}: {case} has no file for channel {missing[0]:04d}; add it",
            rule="missing-file",
        )
    return tuple(files[number] for number in range(count))


NNUNET = Layout(
    "dataset.json with imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz", _is_nnunet, _list_nnunet
)


def _is_decathlon(path: Path) -> bool:
    entries = read_description(path)
    return entries is not None and isinstance(entries.get("training"), list)


def _list_decathlon(path: Path, labels: Labels | None, problems: Problems) -> Found:
    """Lists training items with their labels, then test items without, each by file name (Antonelli 2022).

    Several modalities lie along the fourth axis of a file. Raises CoopsegError for an entry that cannot be
    read and a file that is not there.
    """
    entries, channels = _opened(path, DECATHLON, problems)
    training, test = (
        [replace(item, stacked=len(channels)) for item in _part(path, entries, part, problems)]
        for part in LISTS
    )
    return Found(
        described_name(entries, path, problems),
        labels or described_labels(entries, path, problems),
        training + test,
        test,
        [path / folder for folder in FOLDERS],
        lambda file: f"not listed in {NAME}",
        list(_other_lists(path, entries)),
        channels,
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
