"""Volumes of some patients: by name, or by the part of a split that a model was made with."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from coopseg.cases.splits import NAMED, Part, Split, read_split
from coopseg.errors import CoopsegError
from coopseg.scans.types import Dataset

RUN = "run.json"  # what a training leaves beside its weights


def find_split(name: str | Path) -> Split:
    """A split without the data set it divides: a name of `NAMED`, a JSON or YAML file, or a run folder.

    A run folder means the split of that training, random ones included. Raises CoopsegError for "random",
    which is drawn from a data set, and where nothing is found.
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
    """The split that a training used, from its run.json. Raises CoopsegError where that cannot be read."""
    path = folder / RUN
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))["split"]
        parts = {part: tuple(entry[part]) for part in ("train", "validate", "test")}
        return Split(str(entry["name"]), **parts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "it holds no split"
        raise CoopsegError(f"{path}: {reason}; give the folder of a finished training") from None


def select_part(dataset: Dataset, split: Split, part: Part) -> Dataset:
    """Only the volumes of one part; a data set none of whose patients the split names stays as it is.

    Raises CoopsegError where the part is empty or the data set lacks some of its patients.
    """
    if not {*split.train, *split.validate, *split.test} & set(dataset.patients):
        return dataset
    missing = tuple(patient for patient in getattr(split, part) if patient not in dataset.patients)
    return select_patients(dataset, replace(split, absent=missing).require(part))


def select_patients(dataset: Dataset, patients: Collection[str]) -> Dataset:
    """Only the volumes of `patients`. Raises CoopsegError for a name that the data set lacks."""
    missing = sorted(set(patients) - set(dataset.patients))
    if missing:
        raise CoopsegError(f"{dataset.root}: no such patients: {', '.join(missing)}; check the names")
    return replace(dataset, items=tuple(item for item in dataset.items if item.patient in patients))
