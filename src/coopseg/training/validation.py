"""Validates on whole patients: Dice of both heads in each scan's own grid, averaged per patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coopseg.cases.prepare import Case
from coopseg.errors import CoopsegError
from coopseg.evaluation.metrics import dice
from coopseg.inference.predictor import Predictor
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.load import load_label
from coopseg.scans.types import Labels


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
