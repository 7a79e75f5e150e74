"""Finds what a finished model was trained on, if that is still where it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coopseg.cases.splits import REQUEST, RUN, Split, split_of_run
from coopseg.errors import CoopsegError
from coopseg.scans.layouts import open_dataset
from coopseg.scans.types import Dataset
from coopseg.training.checkpoint import read_request


@dataclass(frozen=True)
class Origin:
    """Holds the data that a model was trained on, and how its patients were divided."""

    dataset: Dataset
    split: Split


def find_split_of(folder: Path) -> Split | None:
    """Returns how the patients of the training in `folder` were divided, None if it holds no finished one."""
    return split_of_run(folder) if (folder / RUN).is_file() else None


def open_origin(folder: Path) -> Origin | str:
    """Opens the data of the training in `folder`; returns a line that says what is missing if it cannot."""
    split = find_split_of(folder)
    if not (folder / REQUEST).is_file() or split is None:
        return f"{folder}: no request.json and run.json of a finished training beside the weights"
    try:
        request = read_request(folder).arguments
        dataset = open_dataset(request.data, layout=request.layout, labels=request.labels)
        return Origin(dataset, split)
    except CoopsegError as error:
        return f"the data of the training cannot be opened ({error})"
