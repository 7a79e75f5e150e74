"""Loads all cases of a data set, with labels mapped by name, prepared and cached."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from coopseg.cases.cache import cached, case_key
from coopseg.cases.prepare import Case, prepare
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.types import Dataset, Labels, ScanRef


def load_cases(
    dataset: Dataset,
    settings: CaseSettings,
    *,
    names: tuple[str, ...],
    patients: Collection[str] | None = None,
    cache_dir: Path | None = None,
    require_labels: bool = True,
    canvas: tuple[int, int] | None = None,
) -> list[Case]:
    """Loads every case of a data set, or of some of its patients, in its order, with `ref` attached.

    names: class names in the order of the networks' outputs, background first; labels are mapped to
    them by name. canvas: see `prepare`. Raises CoopsegError for a patient that the data set lacks and, with
    require_labels, for a volume without a label.
    """
    missing = sorted(set(patients or ()) - set(dataset.patients))
    if missing:
        raise CoopsegError(f"{dataset.root}: no such patients: {', '.join(missing)}; check the names")
    return [
        load_case(
            ref,
            dataset.labels,
            settings,
            names=names,
            cache_dir=cache_dir,
            require_label=require_labels,
            canvas=canvas,
        )
        for ref in dataset.items
        if patients is None or ref.patient in patients
    ]


def load_case(
    ref: ScanRef,
    labels: Labels,
    settings: CaseSettings,
    *,
    names: tuple[str, ...],
    cache_dir: Path | None = None,
    require_label: bool = True,
    canvas: tuple[int, int] | None = None,
) -> Case:
    """Loads one case with `ref` attached; its label is None if the data set has none and none is required."""
    if ref.label is None and require_label:
        raise CoopsegError(f"{ref.image}: no label found beside it; add one or leave {ref.patient} out")
    files: Sequence[Path] = [ref.image] if ref.label is None else [ref.image, ref.label]
    context = {
        "settings": settings.model_dump(mode="json"),
        "labels": [labels.names, labels.values, names],
        "frame": ref.frame,
        "normalised": ref.normalised,
        "labelled": ref.label is not None,
        "canvas": canvas,
    }
    key = case_key(files, context) if cache_dir is not None else ""
    return replace(cached(cache_dir, key, lambda: _make(ref, labels, settings, names, canvas)), ref=ref)


def _make(
    ref: ScanRef,
    labels: Labels,
    settings: CaseSettings,
    names: tuple[str, ...],
    canvas: tuple[int, int] | None,
) -> Case:
    scan, stored = load_scan(ref), load_label(ref)
    label = None
    if stored is not None:
        label = labels_to_indices(stored.data, labels, names=names, path=stored.path)
    return prepare(scan, settings, label=label, names=names, normalised=ref.normalised, canvas=canvas)
