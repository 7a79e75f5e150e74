"""Reads and checks what a training works on, before it starts, and validates on whole patients."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coopseg.cases.collect import load_cases
from coopseg.cases.prepare import Case
from coopseg.cases.splits import Part, Split, get_split
from coopseg.config.resolve import read_overrides, resolve_settings
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.evaluation.metrics import dice
from coopseg.inference.predictor import Predictor
from coopseg.scans.labels import labels_to_indices, parse_label_names
from coopseg.scans.layouts import notes_on, open_dataset
from coopseg.scans.load import load_label
from coopseg.scans.types import Dataset, Labels
from coopseg.text import merge_lines
from coopseg.training.augmentation import reach


@dataclass(frozen=True)
class Arguments:
    """Holds the arguments of `coopseg.train`, in values that JSON can hold, paths absolute."""

    data: str
    preset: str
    method: str | None
    split: str
    layout: str
    labels: str | None
    settings: dict[str, Any]
    seed: int
    device: str
    precision: str
    cache: str | None

    @classmethod
    def of(
        cls,
        *,
        data: str | Path,
        split: str,
        settings: Mapping[str, Any] | Iterable[str],
        cache: str | Path | None,
        **others: Any,
    ) -> Arguments:
        """Converts the arguments that a user gave."""
        return cls(
            data=os.path.abspath(data),
            split=os.path.abspath(split) if os.path.exists(split) else split,
            settings=read_overrides(settings),
            cache=os.path.abspath(cache) if cache else None,
            **others,
        )

    def resolve(self) -> Settings:
        """Returns every setting of the run. Raises CoopsegError for an unknown or wrong one."""
        return resolve_settings(
            preset=self.preset,
            method=self.method,
            overrides=self.settings,
            seed=self.seed,
            precision=self.precision,
        )


@dataclass(frozen=True)
class Inputs:
    """Holds what `read_inputs` found. Each case carries its `ref`, training cases a label and a canvas."""

    settings: Settings
    dataset: Dataset
    parts: Split
    training: list[Case]
    validation: ValidationSet
    idle: list[str]

    @property
    def warnings(self) -> list[str]:
        """Returns a line for everything about settings and cases that a user should look at."""
        cases = (*self.training, *self.validation.cases)
        usual = self.settings.cases.trained_axis
        lines = [(case.ref.id if case.ref else "", line) for case in cases for line in case.warnings]
        for case in cases:
            if (axis := case.record.orientation.axes[0]) != usual:
                line = f"slices are cut along axis {axis}, those of most training scans along axis {usual}"
                lines.append((case.ref.id if case.ref else "", f"{line}; check that the plane is the same"))
        return self.idle + notes_on(self.dataset) + merge_lines(lines)


def read_inputs(arguments: Arguments) -> Inputs:
    """Open the data set, divide it, prepare its cases. Raises CoopsegError for anything wrong with them."""
    settings = arguments.resolve()
    labels = parse_label_names(arguments.labels) if arguments.labels else None
    dataset = open_dataset(Path(arguments.data), layout=arguments.layout, labels=labels)
    parts = get_split(arguments.split, dataset, seed=arguments.seed)
    names, cache = dataset.labels.names, Path(arguments.cache) if arguments.cache else None
    canvases: dict[Part, tuple[int, int] | None] = {
        "train": reach(settings.cases.size, settings.augmentation),
        "validate": None,
    }
    training, validation = (
        load_cases(
            dataset,
            settings.cases,
            names=names,
            patients=parts.require(part),
            cache_dir=cache,
            canvas=canvas,
        )
        for part, canvas in canvases.items()
    )
    axes = Counter(case.record.orientation.axes[0] for case in training)
    settings = with_trained_axis(settings, axes.most_common(1)[0][0])
    validated = ValidationSet.from_cases(validation, dataset.labels, names)
    return Inputs(settings, dataset, parts, training, validated, idle_settings(settings, arguments.settings))


def with_trained_axis(settings: Settings, axis: int) -> Settings:
    """Returns settings that remember the stored axis along which most slices of the training lie."""
    cases = settings.cases.model_copy(update={"trained_axis": axis})
    return settings.model_copy(update={"cases": cases})


def idle_settings(settings: Settings, given: Iterable[str]) -> list[str]:
    """Returns a line for each given setting of latent masks if the method has no such masks."""
    if settings.latent.image or settings.latent.shape:
        return []
    return [
        f"{key} has no effect: method {settings.method} has no latent masks; take another, as cooperative"
        for key in given
        if key.startswith("latent.")
    ]


@dataclass(frozen=True)
class ValidationSet:
    """Holds prepared cases with their true class indices in the scan's own grid."""

    cases: tuple[Case, ...]
    targets: tuple[np.ndarray, ...]
    names: tuple[str, ...]

    @classmethod
    def from_cases(cls, cases: Sequence[Case], labels: Labels, names: tuple[str, ...]) -> ValidationSet:
        """Read the labels of `cases`, which carry their `ref`. Raises CoopsegError if one is missing."""
        targets = []
        for case in cases:
            label = load_label(case.ref) if case.ref else None
            if label is None:
                raise CoopsegError(f"{case.ref.image if case.ref else 'case'}: validation needs a label")
            targets.append(labels_to_indices(label.data, labels, names=names, path=label.path))
        return cls(tuple(cases), tuple(targets), names)


def validate(predictor: Predictor, validation: ValidationSet) -> dict[str, dict[str, float]]:
    """Averages Dice over volumes, then patients: {head: {"mean": over foreground classes, class: Dice}}."""
    scores: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    classes = range(1, len(validation.names))
    for case, target in zip(validation.cases, validation.targets, strict=True):
        patient = case.ref.patient if case.ref else ""
        for head, labels in predictor.labels(case).items():
            scores[head][patient].append(dice(labels, target, classes=classes))
    return {head: _average(patients, validation.names[1:]) for head, patients in scores.items()}


def _average(patients: dict[str, list[np.ndarray]], names: tuple[str, ...]) -> dict[str, float]:
    mean = np.mean([np.mean(volumes, axis=0) for volumes in patients.values()], axis=0)
    return {
        "mean": float(mean.mean()),
        **{name: float(value) for name, value in zip(names, mean, strict=True)},
    }
