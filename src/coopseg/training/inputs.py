"""Reads and checks what a training works on, before it starts: settings, patients and prepared cases."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coopseg.cases.collect import load_cases
from coopseg.cases.prepare import Case
from coopseg.cases.splits import Part, Split, get_split
from coopseg.config.resolve import read_overrides, resolve_settings
from coopseg.config.settings import Settings
from coopseg.scans.labels import parse_label_names
from coopseg.scans.layouts import open_dataset
from coopseg.scans.types import Dataset
from coopseg.training.augmentation import reach
from coopseg.training.validation import ValidationSet


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
        return self.idle + [
            f"{case.ref.id if case.ref else ''}: {line}" for case in cases for line in case.warnings
        ]


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
    validated = ValidationSet.from_cases(validation, dataset.labels, names)
    return Inputs(settings, dataset, parts, training, validated, idle_settings(settings, arguments.settings))


def idle_settings(settings: Settings, given: Iterable[str]) -> list[str]:
    """Returns a line for each given setting of latent masks if the method has no such masks."""
    if settings.latent.image or settings.latent.shape:
        return []
    return [
        f"{key} has no effect: method {settings.method} has no latent masks; take another, as cooperative"
        for key in given
        if key.startswith("latent.")
    ]
