"""Selects volumes of some patients: by name, or by a part of the split that a model was made with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from coopseg.cases.splits import NAMED, PARTS, Part, Split, patients_of, read_split
from coopseg.errors import CoopsegError
from coopseg.scans.types import Dataset
from coopseg.text import listing, read_json

REQUEST, RUN = "request.json", "run.json"  # beside weights: written before the first step, after the last


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
