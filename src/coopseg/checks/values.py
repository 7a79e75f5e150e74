"""Checks the values of one label map."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from coopseg.checks.report import Fault
from coopseg.scans.labels import MOST_LABELS
from coopseg.scans.types import BACKGROUND, Labels
from coopseg.text import listing


def background_value(labels: Labels) -> int:
    """Returns the value in the files that means background."""
    return labels.values[labels.names.index(BACKGROUND)]


def check_values(values: Collection[int], labels: Labels) -> Iterator[Fault]:
    """Yields faults of a label map's values. If `labels` has background alone, they have no names."""
    background = background_value(labels)
    if set(values) == {background}:
        yield Fault("label-empty", f"every voxel is background ({background})")
        return
    named = bool(labels.foreground)
    if len(values) > MOST_LABELS:
        yield Fault("label-values", f"{len(values)} values, as of an image")
        return
    wrong = sorted(value for value in values if (value not in labels.values if named else value < 0))
    if wrong:
        known = listing([f"{value} {name}" for value, name in zip(labels.values, labels.names, strict=True)])
        found = f"no name for {listing(list(map(str, wrong)))}"
        yield Fault("label-unnamed", found + (f" (known: {known})" if named else ""))
