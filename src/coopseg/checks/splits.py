"""Checks a split against a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from coopseg.cases.select import find_split
from coopseg.cases.splits import NAMED, PARTS, Part, get_split, overlaps, read_parts
from coopseg.checks.report import Fault, Finding, fault_of
from coopseg.errors import CoopsegError
from coopseg.scans.types import Dataset
from coopseg.text import listing

Parts = Mapping[Part, tuple[str, ...]]


def open_split(name: str, dataset: Dataset) -> tuple[Parts | None, list[Finding]]:
    """Returns the patients of each part, which may overlap; or None, with findings that say why.

    name: as `coopseg.cases.splits.get_split` takes it, or a run folder. Raises CoopsegError if the name
    is neither a split's nor a file's.
    """
    if name in NAMED or (name != "random" and not Path(name).is_file()):
        split = find_split(name)
        return {part: getattr(split, part) for part in PARTS}, []
    try:
        if name != "random":
            return read_parts(Path(name)), []
        split = get_split(name, dataset)
        return {part: getattr(split, part) for part in PARTS}, []
    except CoopsegError as error:
        _, fault = fault_of(error, otherwise="split", root=dataset.root)
        return None, [fault.at(name)]


def check_split(name: str, parts: Parts, dataset: Dataset) -> Iterator[Finding]:
    """Reports patients in two parts, parts without patients, and patients that the data set lacks."""
    for part, other, shared in overlaps(parts):
        for patient in shared:
            yield Fault("split-overlap", f"{patient} is in {part} and in {other}").at(name, patient)
    for part in ("train", "validate"):
        if not parts[part]:
            yield Fault("split-empty", f"no {part} patients").at(name)
    for part in PARTS:
        absent = [patient for patient in parts[part] if patient not in dataset.patients]
        if absent:
            rule = "split-untested" if name in NAMED and part == "test" else "split-unknown"
            found = f"{len(absent)} of {len(parts[part])} {part} patients are not there: {listing(absent)}"
            yield Fault(rule, found).at(name)
