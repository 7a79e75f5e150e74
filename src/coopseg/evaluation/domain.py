"""Tells if a data set is a model's own domain, corrupted or another site, and if it was trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from coopseg.cases.select import RUN, split_of_run
from coopseg.cases.splits import Split
from coopseg.inference.model import Model
from coopseg.scans.types import Dataset

Domain = Literal["intra", "corrupted", "other"]


def split_of_model(model: Model) -> Split | None:
    """Returns the split that a model was trained with, or None if no run.json lies beside its weights."""
    folder = model.path.parent
    return split_of_run(folder) if (folder / RUN).is_file() else None


def find_domain(dataset: Dataset, trained: Split | None) -> Domain:
    """Returns what a data set is to a model that was trained with the split `trained`.

    "corrupted": all its volumes are copies by `corrupt`. "intra": the split names some of its patients.
    "other": neither.
    """
    if all(ref.copy for ref in dataset.items):
        return "corrupted"
    known = {*trained.train, *trained.validate, *trained.test} if trained else set()
    return "intra" if known & set(dataset.patients) else "other"


def seen_in_training(trained: Split | None, datasets: Sequence[Dataset], *, folder: Path) -> tuple[str, ...]:
    """Returns a line for each data set with patients that, by name, the model was trained or selected on."""
    if trained is None:
        return (f"{folder / RUN}: not found, so whether the model was trained on these patients is unknown",)
    warnings = []
    for dataset in datasets:
        seen = [patient for patient in dataset.patients if patient in {*trained.train, *trained.validate}]
        if seen:
            warnings.append(
                f"{dataset.name}: {len(seen)} of {len(dataset.patients)} patients bear names of training or "
                f"validation patients of the model ({_few(seen)}); if they are the same, the scores are "
                f"too good; --split {folder} takes the model's test patients"
            )
    return tuple(warnings)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
