"""Finds what shows only when volumes are compared, with each other and with a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from coopseg.cases.lost import Count, describe_shares, sum_lost
from coopseg.cases.splits import NAMED, PARTS, Part, find_split, get_split, overlaps, read_parts
from coopseg.checks.rules import AGREEING, FACING, Fault, Finding, fault_of, relative
from coopseg.checks.volumes import Volume, background_value
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.labels import MOST_LABELS
from coopseg.scans.names import alike_patients, describe_alike
from coopseg.scans.types import Dataset, Labels
from coopseg.text import listing

ENOUGH = 4  # in fewer scans, no fault or direction counts as common


def check_across(
    dataset: Dataset, volumes: Sequence[Volume], *, used: Collection[str] | None
) -> Iterator[Finding]:
    """Yields findings that need all volumes. used: patients who need a label; None for all."""
    yield from _check_labelled(dataset, used)
    yield from _check_folders(dataset)
    if groups := alike_patients(dataset.patients):
        yield Fault("patients-alike", describe_alike(groups)).at()
    yield from _check_copies(volumes, dataset.root)
    yield from _check_facing(volumes, dataset.root)
    yield from _check_classes(dataset, volumes)


def check_crop(volumes: Sequence[Volume], settings: CaseSettings) -> Iterator[Finding]:
    """Yields one finding if the crop cuts more than MOST_LOST of a class, with the volume that loses most."""
    measured = [(volume.ref.id, volume.lost) for volume in volumes if volume.lost]
    if shares := sum_lost(lost for _, lost in measured).shares:
        worst = max(shares, key=lambda name: shares[name])
        case = max(measured, key=lambda pair: pair[1].cut.get(worst, Count()).lost)[0]
        rows, columns = settings.size
        found = f"the crop of {rows} x {columns} pixels cuts {describe_shares(shares)}; most in {case}"
        yield Fault("crop-cuts", found).at()


def merge_shared(findings: Sequence[Finding], files: int) -> Iterator[Finding]:
    """Merges findings that every image file shares word for word into one. files: number of image files."""
    places: dict[tuple[str, str], set[str]] = {}
    for finding in findings:
        places.setdefault((finding.rule, finding.found), set()).add(finding.file)
    merged = set()
    for finding in findings:
        key = finding.rule, finding.found
        if files < ENOUGH or len(places[key]) < files:
            yield finding
        elif key not in merged:
            merged.add(key)
            yield Fault(finding.rule, f"all {len(places[key])} files: {finding.found}", finding.do).at()


def _check_labelled(dataset: Dataset, used: Collection[str] | None) -> Iterator[Finding]:
    for ref in dataset.items:
        if ref.label is None and (used is None or ref.patient in used):
            yield Fault("label-missing", "no label map").at(relative(ref.image, dataset.root), ref.id)


def _check_folders(dataset: Dataset) -> Iterator[Finding]:
    if dataset.layout == "folder":  # its dataset.json may name the patient of any file, in any folder
        return
    homes: dict[str, dict[Path, None]] = {}
    for ref in dataset.items:
        homes.setdefault(ref.patient, {})[ref.image.parent] = None
    ids = Counter(ref.id for ref in dataset.items)
    repeated = {ref.patient for ref in dataset.items if ids[ref.id] > 1}  # reported as duplicate-case
    for patient, folders in homes.items():
        if len(folders) > 1 and patient not in repeated:
            listed = listing([relative(folder, dataset.root) for folder in folders])
            yield Fault("patient-in-two-folders", f"{patient} is in {listed}").at("", patient)


def _check_copies(volumes: Sequence[Volume], root: Path) -> Iterator[Finding]:
    first: dict[str, Volume] = {}
    for volume in volumes:
        ref = volume.ref
        other = first.setdefault(volume.fingerprint, volume).ref if volume.fingerprint else ref
        if other.id != ref.id:
            rule = "repeated-image" if other.patient == ref.patient else "identical-images"
            found = f"the same voxels as {other.id} ({relative(other.image, root)})"
            yield Fault(rule, found).at(relative(ref.image, root), ref.id)


def _check_facing(volumes: Sequence[Volume], root: Path) -> Iterator[Finding]:
    """Finds scans far from the main direction: the axis nearest to all slice directions of either sign."""
    files = {volume.ref.image: volume for volume in volumes if volume.direction is not None}
    if len(files) < ENOUGH:
        return
    columns = np.array([volume.direction for volume in files.values()])
    main = np.linalg.eigh(columns.T @ columns).eigenvectors[:, -1]
    angles = np.degrees(np.arccos(np.minimum(np.abs(columns @ main), 1)))
    if (angles <= FACING).mean() < AGREEING:
        return
    for (path, volume), angle in zip(files.items(), angles.tolist(), strict=True):
        if angle > FACING:
            found = f"slices face {angle:.0f} degrees away from those of most scans"
            do = "look at the scan; leave out another view, correct a header that lost its direction"
            yield Fault("orientation", found, do).at(relative(path, root), volume.ref.id)


def _check_classes(dataset: Dataset, volumes: Sequence[Volume]) -> Iterator[Finding]:
    labelled = [volume for volume in volumes if volume.values is not None]
    present = {value for volume in labelled for value in volume.values or ()}
    background = background_value(dataset.labels)
    if not dataset.labels.foreground and present - {background}:
        listed = listing(list(map(str, sorted(present - {background}))))
        yield Fault("names-missing", f"the label values {listed} have no names").at()
    classes = _classes(dataset.labels, present)
    missing = [value for value in classes if value not in present and labelled]
    for value in missing:
        yield Fault("class-missing", f"no label map holds {classes[value]} ({value})").at()
    for volume in labelled:
        values = volume.values or frozenset()
        absent = [name for value, name in classes.items() if value not in values and value not in missing]
        if absent and values != {background} and volume.ref.label:
            found = f"no voxel of {listing(absent)}"
            yield Fault("class-absent", found).at(relative(volume.ref.label, dataset.root), volume.ref.id)


def _classes(labels: Labels, present: Collection[int]) -> dict[int, str]:
    """Names the foreground values; if none has a name, names those found as training does."""
    if not labels.foreground:
        found = sorted(value for value in present if value > 0)
        return {value: f"label{value}" for value in found} if len(found) < MOST_LABELS else {}
    pairs = zip(labels.values, labels.names, strict=True)
    return {value: name for value, name in pairs if value != background_value(labels)}


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
