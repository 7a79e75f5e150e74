"""Divides patients into train, validate and test, and keeps the volumes of a part."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.scans.names import nfc
from coopseg.scans.types import Dataset
from coopseg.text import counted, listing, parse_json, parse_yaml, read_json, read_text

Part = Literal["train", "validate", "test"]
PARTS: tuple[Part, ...] = ("train", "validate", "test")


def _acdc(numbers: str | Iterable[int]) -> tuple[str, ...]:
    values = numbers.split() if isinstance(numbers, str) else numbers
    return tuple(f"patient{int(value):03d}" for value in values)


# Chen et al. 2021 test on four patients of each of the five diagnosis groups.
PAPER_TEST = _acdc(first + offset for first in (7, 27, 47, 67, 87) for offset in range(4))
# Four other patients of each group, for development without a look at the paper's.
DEVELOPMENT_TEST = _acdc("14 15 16 18 34 35 36 38 54 55 56 58 74 75 76 77 94 96 98 99")
# The authors' three draws of ten, validated on five others. Their validation set of B shares two
# patients with its training set, so the five of A, which do not, replace it.
FEW_SHOT = {
    "A": (_acdc("1 4 12 22 44 46 53 61 73 92"), _acdc("11 71 62 95 82")),
    "B": (_acdc("1 2 6 21 22 24 25 33 41 86"), _acdc("11 71 95 62 82")),
    "C": (_acdc("13 21 24 33 43 46 52 73 84 93"), _acdc("11 71 2 62 95")),
}
STANDARD_VALIDATION = _acdc("5 20 23 37 42 46 66 78 82 97")


@dataclass(frozen=True)
class Split:
    """Holds the patients of each part and checks that no patient is in two parts.

    absent: test patients of a published split that the data set at hand lacks; training can go on
    without them, testing cannot (see `require`).
    """

    name: str
    train: tuple[str, ...]
    validate: tuple[str, ...]
    test: tuple[str, ...]
    absent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part, other, shared in overlaps({part: getattr(self, part) for part in PARTS}):
            raise CoopsegError(
                f"split {self.name}: {listing(shared)} in {part} and in {other}; keep each in one part"
            )

    def require(self, part: Part) -> tuple[str, ...]:
        """Returns the patients of a part. Raises CoopsegError if there are none or some are absent."""
        patients: tuple[str, ...] = getattr(self, part)
        missing = [patient for patient in patients if patient in self.absent]
        if missing:
            raise CoopsegError(
                f"split {self.name}: the data set lacks {len(missing)} of {len(patients)} {part} patients "
                f"({listing(missing)}); add them or choose another split"
            )
        if not patients:
            raise CoopsegError(f"split {self.name} has no {part} patients; add some or choose another split")
        return patients


def overlaps(parts: Mapping[Part, Collection[str]]) -> Iterator[tuple[Part, Part, list[str]]]:
    """Yields (part, other part, patients in both) for every two parts that share any."""
    for part, other in combinations(PARTS, 2):
        if shared := sorted(set(parts[part]) & set(parts[other])):
            yield part, other, shared


def _standard(test: tuple[str, ...], left_out: tuple[str, ...] = ()) -> tuple[tuple[str, ...], ...]:
    taken = {*PAPER_TEST, *STANDARD_VALIDATION, *left_out}
    train = tuple(patient for patient in _acdc(range(1, 101)) if patient not in taken)
    return train, STANDARD_VALIDATION, test


def _choice() -> tuple[str, ...]:
    """Returns the patients to choose settings by: those in no test set and in no few-shot draw."""
    drawn = (patient for parts in FEW_SHOT.values() for part in parts for patient in part)
    taken = {*PAPER_TEST, *DEVELOPMENT_TEST, *drawn}
    return tuple(patient for patient in _acdc(range(1, 101)) if patient not in taken)


NAMED: dict[str, tuple[tuple[str, ...], ...]] = {
    **{f"acdc-10-{draw}": (*parts, PAPER_TEST) for draw, parts in FEW_SHOT.items()},
    **{f"acdc-dev-{draw}": (*parts, DEVELOPMENT_TEST) for draw, parts in FEW_SHOT.items()},
    **{f"acdc-choose-{draw}": (*parts, _choice()) for draw, parts in FEW_SHOT.items()},
    "acdc-70": _standard(PAPER_TEST),
    "acdc-dev-70": _standard(DEVELOPMENT_TEST, DEVELOPMENT_TEST),
}


def get_split(name: str | Path, dataset: Dataset, *, seed: int = 0) -> Split:
    """Returns the split of a data set by name, by file, or at random.

    name: one of `NAMED`; "random" (seeded: 70 / 10 / 20 % of the patients, at least one each); or the
    path of a JSON or YAML file {train: [...], validate: [...], test: [...]}, test optional.
    Raises CoopsegError for an unknown name or file, for a patient in two parts, and for patients that
    the data set lacks; test patients of a named split may be absent until `Split.require("test")`.
    """
    if name == "random":
        return _random_split(dataset, seed)
    if str(name) in NAMED:
        train, validate, test = NAMED[str(name)]
        absent = tuple(patient for patient in test if patient not in dataset.patients)
        split = Split(str(name), train, validate, test, absent)
    else:
        split = read_split(Path(name))
    _check_present(split, dataset)
    return split


def _check_present(split: Split, dataset: Dataset) -> None:
    wanted = dict.fromkeys((*split.train, *split.validate, *split.test))
    known = {*dataset.patients, *split.absent}
    missing = [patient for patient in wanted if patient not in known]
    if missing:
        raise CoopsegError(
            f"{dataset.root}: no such patients: {listing(missing)}, named by split {split.name}; "
            f"add them or choose another split"
        )


def _random_split(dataset: Dataset, seed: int) -> Split:
    patients = sorted(dataset.patients)
    if len(patients) < 3:
        raise CoopsegError(
            f"{dataset.root}: {len(patients)} patients are too few for a random split; give 3 or more"
        )
    order = [patients[index] for index in np.random.default_rng(seed).permutation(len(patients))]
    validate, test = (max(1, round(share * len(order))) for share in (0.1, 0.2))
    parts = (order[validate + test :], order[:validate], order[validate : validate + test])
    return Split(f"random-{seed}", *(tuple(sorted(part)) for part in parts))


def read_split(path: Path) -> Split:
    """Reads the split in a JSON or YAML file; for its format and errors see `get_split`."""
    return Split(str(path), **read_parts(path))


def read_parts(path: Path) -> dict[Part, tuple[str, ...]]:
    """Reads the lists in a JSON or YAML file as they stand; a patient may be in two of them."""
    if not os.path.exists(path) or os.path.isdir(path):
        raise CoopsegError(
            f"{path}: no such split; use {', '.join(sorted(NAMED))}, random or a JSON or YAML file"
        )
    text = read_text(path)
    try:
        content = parse_json(text) if path.suffix == ".json" else parse_yaml(text)
    except ValueError as error:
        raise CoopsegError(f"{path}: not readable as JSON or YAML ({error}); correct it") from None
    if not isinstance(content, dict) or not {"train", "validate"} <= set(content) <= set(PARTS):
        raise CoopsegError(f"{path}: a split file holds lists train, validate and perhaps test, nothing else")
    return {part: patients_of(content.get(part, []), part, path) for part in PARTS}


def patients_of(patients: Any, part: Part, path: Path) -> tuple[str, ...]:
    """Reads a part's patients from a file. Raises CoopsegError for anything but a list of different names."""
    if not isinstance(patients, list) or not all(isinstance(patient, str) for patient in patients):
        raise CoopsegError(f"{path}: {part} must be a list of patient names in quotes")
    patients = [nfc(patient) for patient in patients]
    repeated = sorted(patient for patient, times in Counter(patients).items() if times > 1)
    if repeated:
        raise CoopsegError(f"{path}: {part} names {listing(repeated)} more than once; name each once")
    return tuple(patients)


def describe_trained(patients: Collection[str], split: str) -> str:
    """Names the patients of a split that a training sees, to whose scans settings may be adapted."""
    return f"{counted(len(patients), 'training and validation patient')} of split {split}"


REQUEST, RUN = "request.json", "run.json"  # beside weights: written before the first step, after the last
ADAPTED = "adapt.json"  # beside weights that were fitted to another site's scans


def has_ended(folder: Path) -> bool | None:
    """Tells whether the training in a run folder has ended; None if the folder holds no training."""
    if (folder / RUN).is_file():
        return True
    return False if (folder / REQUEST).is_file() else None


def find_split(name: str | Path) -> Split:
    """Finds a split without its data set: by a name of `NAMED`, a JSON or YAML file, or a run folder.

    A run folder means the split of that training, even a random one. Raises CoopsegError for "random",
    which is drawn from a data set, and if nothing is found.
    """
    if str(name) in NAMED:
        return Split(str(name), *NAMED[str(name)])
    if name == "random":
        raise CoopsegError(
            "--split random would draw anew; give the run folder of the training, which holds its split"
        )
    if Path(name).is_dir():
        return split_of_run(Path(name))
    return read_split(Path(name))


def split_of_run(folder: Path) -> Split:
    """Reads the split of a training from its run.json. Raises CoopsegError if that cannot be read."""
    path = folder / RUN
    if not path.exists():
        raise CoopsegError(f"{path}: no such file; give the folder of a finished training")
    try:
        entry = read_json(path)["split"]
        parts = {part: patients_of(entry[part], part, path) for part in PARTS}
        return Split(str(entry["name"]), **parts)
    except (ValueError, KeyError, TypeError):
        raise CoopsegError(f"{path}: it holds no split; give the folder of a finished training") from None


def select_part(dataset: Dataset, split: Split, part: Part) -> Dataset:
    """Keeps only the volumes of one part; if the split names no patient of the data set, keeps all.

    Raises CoopsegError if the part is empty or the data set lacks some of its patients.
    """
    if not {*split.train, *split.validate, *split.test} & set(dataset.patients):
        return dataset
    missing = tuple(patient for patient in getattr(split, part) if patient not in dataset.patients)
    return select_patients(dataset, replace(split, absent=missing).require(part))


def select_patients(dataset: Dataset, patients: Collection[str]) -> Dataset:
    """Keeps only the volumes of `patients`. Raises CoopsegError for a name that the data set lacks."""
    missing = sorted(set(patients) - set(dataset.patients))
    if missing:
        raise CoopsegError(f"{dataset.root}: no such patients: {listing(missing)}; check the names")
    return replace(dataset, items=tuple(item for item in dataset.items if item.patient in patients))
