"""Reads and checks what a training works on, before it starts, and validates on whole patients."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coopseg.cases.adapt import adapt_cases
from coopseg.cases.collect import load_cases
from coopseg.cases.lost import describe_lost, sum_lost
from coopseg.cases.prepare import Case
from coopseg.cases.splits import PARTS, Part, Split, describe_trained, get_split
from coopseg.config.resolve import check_named, own_code, read_overrides, resolve_settings
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.inference.predictor import Predictor
from coopseg.measures.overlap import dice
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import LAYOUTS, notes_on, open_dataset
from coopseg.scans.load import load_label
from coopseg.scans.names import alike_patients, describe_alike
from coopseg.scans.types import Dataset, Labels
from coopseg.text import counted, merge_lines
from coopseg.training.augmentation import reach
from coopseg.training.log import Scores
from coopseg.training.request import TrainingRequest


def make_request(data: str | Path | Dataset, **given: Any) -> TrainingRequest:
    """Converts what a user gave to `coopseg.train`: paths, an open data set, settings as values or texts.

    Raises CoopsegError for an unknown argument and for a wrong value.
    """
    values = dict(given)
    if isinstance(data, Dataset):
        open_dataset(data, layout=values.get("layout", "auto"), labels=values.get("labels"))
        pairs = zip(data.labels.names, data.labels.values, strict=True)
        values["layout"], values["labels"] = data.layout, ",".join(f"{name}={value}" for name, value in pairs)
        data = data.root
    if values.get("cache"):
        values["cache"] = os.path.abspath(values["cache"])
    if "split" in values:
        split = os.fspath(values["split"])
        values["split"] = os.path.abspath(split) if os.path.exists(split) else split
    values["settings"] = read_overrides(values.get("settings", ()))
    return TrainingRequest.checked({"data": os.path.abspath(data), **values})


def change_request(request: TrainingRequest, **given: Any) -> TrainingRequest:
    """Returns the request with the arguments in `given` replaced; settings are replaced singly."""
    settings = {**request.settings, **read_overrides(given.get("settings", ()))}
    opened = isinstance(given.get("data"), Dataset)  # it says itself what its layout and labels are
    kept = request.model_dump(exclude={"layout", "labels"} if opened else None)
    return make_request(**{**kept, **given, "settings": settings})


def check_code(file: Path, request: TrainingRequest, **given: Any) -> None:
    """Raise CoopsegError if `request`, read from `file`, needs code that `given` does not name."""
    changes = read_overrides(given.get("settings", ()))
    used, settings = changes.get("rivals.use", ()), resolve_request(request)
    named = {*(given.get("method") or "").split("+"), *(used if isinstance(used, list | tuple) else ())}
    check_named(own_code(settings.rivals.use), named, file=file, how="--method ")
    kinds = {str(changes.get("network.kind"))}
    check_named(own_code([settings.network.kind]), kinds, file=file, how="--set network.kind=")


def resolve_request(request: TrainingRequest) -> Settings:
    """Returns every setting of a training. Raises CoopsegError for an unknown or wrong one."""
    return resolve_settings(
        preset=request.preset,
        method=request.method,
        overrides=request.settings,
        seed=request.seed,
        precision=request.precision,
    )


@dataclass(frozen=True)
class Inputs:
    """Holds what `read_inputs` found. Each case carries its `ref`, training cases a label and a canvas.

    adapted: which settings were chosen from the scans, if any, in one line.
    """

    settings: Settings
    dataset: Dataset
    parts: Split
    training: list[Case]
    validation: ValidationSet
    idle: list[str]
    adapted: str = ""

    @property
    def lost(self) -> str:
        """Says in one line what the crop and the intensity rule lose of the training scans."""
        return describe_lost(sum_lost(case.lost for case in self.training), self.settings.cases)

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
        return self.idle + _alike(self.dataset, self.parts) + notes_on(self.dataset) + merge_lines(lines)


def read_inputs(request: TrainingRequest, dataset: Dataset | None = None) -> Inputs:
    """Opens the data set, divides it and prepares its cases.

    dataset: the one that `request.data` stands for, if it has been opened.
    Raises CoopsegError for anything wrong with settings, data or split.
    """
    settings = resolve_request(request)
    dataset = dataset or open_dataset(request.data, layout=request.layout, labels=request.labels)
    if all(item.label is None for item in dataset.items):
        scans = counted(len(dataset.items), "scan")
        raise CoopsegError(
            f"{dataset.root}: no labels found beside its {scans}; a training needs them; "
            f"layout {dataset.layout} looks for {LAYOUTS[dataset.layout].looked_for}"
        )
    given = request.settings.get("network.channels", len(dataset.channels))
    if given != len(dataset.channels):
        found = f"{dataset.root}: its images have {counted(len(dataset.channels), 'channel')}"
        raise CoopsegError(f"{found}, but network.channels is {given}; leave that setting out")
    parts = get_split(request.split, dataset, seed=request.seed)
    names, cache = dataset.labels.names, Path(request.cache) if request.cache else None
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
    _check_blank([*training, *validation], settings.cases.percentiles)
    axes = Counter(case.record.orientation.axes[0] for case in training)
    settings = fitted(settings, axes.most_common(1)[0][0], dataset.channels)
    validated = ValidationSet.from_cases(validation, dataset.labels, names)
    return Inputs(settings, dataset, parts, training, validated, idle_settings(settings, request.settings))


def _check_blank(cases: Sequence[Case], percentiles: tuple[float, float]) -> None:
    """Raises CoopsegError if some channels hold one intensity alone between the percentiles."""
    blank = [
        (case.ref.images[number if case.ref.more else 0], limits[0])
        for case in cases
        for number, limits in enumerate(case.record.clip or ())
        if case.ref and limits[0] >= limits[1]
    ]
    if blank:
        low, high = percentiles
        others = f", and so are {len(blank) - 1} more" if len(blank) > 1 else ""
        raise CoopsegError(
            f"{blank[0][0]}: percentiles {low:g} and {high:g} are both {blank[0][1]:g}, so the case is "
            f"blank{others}; export it again, leave it out, or set cases.percentiles",
            rule="constant",
        )


def _alike(dataset: Dataset, parts: Split) -> list[str]:
    """Returns a line if patients who may be one person lie in different parts."""
    home = {name: part for part in PARTS for name in getattr(parts, part)}
    divided = [
        group
        for group in alike_patients(dataset.patients)
        if len({home[name] for name in group if name in home}) > 1
    ]
    advice = "list who trains and who tests in a --split file"
    return [f"{describe_alike(divided)} and lie in different parts; {advice}"] if divided else []


def adapt_request(request: TrainingRequest, dataset: Dataset | None = None) -> tuple[TrainingRequest, str]:
    """Returns the request with settings chosen from its training and validation scans, and a line on them.

    Settings that the request gives stay. dataset: as for `read_inputs`, whose errors it raises.
    """
    settings = resolve_request(request).cases
    dataset = dataset or open_dataset(request.data, layout=request.layout, labels=request.labels)
    parts = get_split(request.split, dataset, seed=request.seed)
    patients = {*parts.require("train"), *parts.require("validate")}
    whose = describe_trained(patients, parts.name)
    found = adapt_cases(dataset, settings, patients=patients, given=request.settings, whose=whose)
    return change_request(request, settings=found.settings), found.line


def fitted(settings: Settings, axis: int, channels: Sequence[str]) -> Settings:
    """Returns settings that remember the scans: the stored axis of most slices, the images' channels."""
    cases = settings.cases.model_copy(update={"trained_axis": axis, "channels": tuple(channels)})
    network = settings.network.model_copy(update={"channels": len(channels)})
    return settings.model_copy(update={"cases": cases, "network": network})


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


def validate(predictor: Predictor, validation: ValidationSet) -> Scores:
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
