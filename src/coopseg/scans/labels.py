"""Matches label values by name, since 1 is the RV in ACDC and the LV in M&Ms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.scans.types import BACKGROUND, Labels
from coopseg.text import listing, shorten, whole_number

MOST_LABELS = 256  # background included: class indices are stored as uint8
ALIASES = {
    "bg": BACKGROUND, "background": BACKGROUND,
    "lv": "LV", "lvc": "LV", "left ventricle": "LV", "lv cavity": "LV",
    "myo": "MYO", "lvm": "MYO", "mlv": "MYO", "myocardium": "MYO", "lv myocardium": "MYO",
    "rv": "RV", "rvc": "RV", "right ventricle": "RV", "rv cavity": "RV",
}  # fmt: skip


def canonical_name(name: str) -> str:
    """Returns the usual name of a structure: "left ventricle" and "lvc" are "LV"; others stay as given."""
    stripped = name.strip()
    return ALIASES.get(stripped.lower().replace("_", " "), stripped)


def make_labels(pairs: Iterable[tuple[str, int]], *, source: str) -> Labels:
    """Makes Labels from (name, value) pairs: background first (0 unless named), then by value.

    Raises CoopsegError, naming `source`, if a name or value occurs twice, a name is empty, a value is
    negative, or there are more than 256.
    """
    ordered = [(canonical_name(name), int(value)) for name, value in pairs]
    if not any(name == BACKGROUND for name, _ in ordered):
        ordered.append((BACKGROUND, 0))
    ordered.sort(key=lambda pair: (pair[0] != BACKGROUND, pair[1]))
    names = tuple(name for name, _ in ordered)
    values = tuple(value for _, value in ordered)
    for kind, found in (("name", names), ("value", values)):
        twice = sorted(str(entry) for entry, times in Counter(found).items() if times > 1)
        if twice:
            raise CoopsegError(f"{source}: label {kind} {listing(twice)} is given twice; give each once")
    if "" in names or min(values) < 0:
        shown = shorten(dict(ordered))
        raise CoopsegError(f"{source}: labels need a name and a value of 0 or more, found {shown}")
    if len(names) > MOST_LABELS:
        raise CoopsegError(f"{source}: {len(names)} labels; {MOST_LABELS} are the most, background included")
    return Labels(names, values)


def parse_label_names(text: str) -> Labels:
    """Reads "LV=1,MYO=2,RV=3" from the command line into Labels; background is 0 unless named."""
    pairs = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        number = whole_number(value)
        if not (equals and name.strip()) or number is None:
            raise CoopsegError(
                f"--labels: cannot read {shorten(part.strip())} in {shorten(text)}; "
                "write it as LV=1,MYO=2,RV=3"
            )
        pairs.append((name, number))
    return make_labels(pairs, source="--labels")


def labels_to_indices(
    data: np.ndarray,
    labels: Labels,
    *,
    names: tuple[str, ...],
    path: Path | None,
) -> np.ndarray:
    """Turns a label map with the values of `labels` into class indices into `names`: uint8, shape of `data`.

    Names are compared after `canonical_name`. Raises CoopsegError for a structure that `names` lacks, for a
    voxel value without a name, and for a name in `names` that the data set lacks.
    """
    targets = [canonical_name(name) for name in names]
    sources = dict(zip(labels.values, map(canonical_name, labels.names), strict=True))
    missing = [name for name, target in zip(names, targets, strict=True) if target not in sources.values()]
    if missing:
        raise CoopsegError(
            f"{path}: the data set has no label {', '.join(missing)}, only {', '.join(labels.names)}; "
            "name its values with --labels"
        )
    indices = np.zeros(data.shape, np.uint8)
    for value in np.unique(data).tolist():
        if value not in sources:
            known = ", ".join(f"{entry} {name}" for entry, name in sources.items())
            raise CoopsegError(
                f"{path}: label value {value} has no name (known: {known}); name it with --labels"
            )
        if sources[value] not in targets:
            raise CoopsegError(
                f"{path}: label {value} is {sources[value]}, which is not among {', '.join(names)}; "
                "train with it"
            )
        indices[data == value] = targets.index(sources[value])
    return indices
