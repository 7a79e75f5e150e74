"""Finds every problem of every case of a data set at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from coopseg.cases.adapt import adapt_cases
from coopseg.cases.lost import describe_lost, sum_lost
from coopseg.cases.splits import describe_trained
from coopseg.checks.across import Parts, check_across, check_crop, check_split, merge_shared, open_split
from coopseg.checks.rules import Fault, Finding, Report, fault_of, relative
from coopseg.checks.volumes import Volume, examine, group_by_file
from coopseg.config.resolve import read_overrides, resolve_settings
from coopseg.config.section import Changes
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.labels import parse_label_names
from coopseg.scans.layouts import LAYOUTS, contradiction, open_dataset
from coopseg.scans.types import Dataset, ScanRef
from coopseg.text import listing
from coopseg.workers import end_if_imported, processes

Examined = tuple[list[Finding], list[Volume]]


def validate_dataset(
    data: str | Path | Dataset,
    *,
    layout: str = "auto",
    labels: str | None = None,
    splits: Sequence[str | Path] = (),
    preset: str = "default",
    settings: Changes = (),
    adapt: bool = False,
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Check a data set against all `coopseg.checks.rules.RULES`; a broken file hides no other.

    data: a folder, or an open data set. Every file is read once, and at most an image and a label map are in
    memory at a time (per process).
    layout, labels: as for training. splits: names, JSON or YAML files or run folders; each is compared with
    the data set, and then only the patients that they name need a label.
    preset, settings, adapt: as for training; what the crop and the intensity rule lose under them is counted.
    Without a split `adapt` takes the patients of the random split of seed 0.
    workers: processes; the report does not depend on it. progress: called as (images done, of all, volume).
    Raises CoopsegError only for arguments that make no sense: a folder that is not there, an unknown layout,
    labels that cannot be parsed, a split that is neither a name nor a file, a wrong setting. All else is a
    finding.

    >>> import coopseg, tempfile
    >>> folder = coopseg.write_phantom(tempfile.mkdtemp(), patients=1, size=96)["acdc"]
    >>> (folder / "patientP001" / "Info.cfg").write_text("ED: 1")
    5
    >>> found = validate_dataset(folder)
    >>> [(finding.rule, finding.found) for finding in found.findings]
    [('layout', 'no line "ES: <frame number>"')]
    """
    end_if_imported()
    path = data.root if isinstance(data, Dataset) else Path(data)
    given = parse_label_names(labels) if labels else None
    cases = resolve_settings(preset=preset, overrides=settings).cases
    if not path.is_dir() or layout not in ("auto", *LAYOUTS):
        open_dataset(path, layout=layout)  # raises the error
    problems: list[CoopsegError] = []
    try:
        dataset = open_dataset(data, layout=layout, labels=given, problems=problems)
    except (CoopsegError, OSError) as error:
        problems.append(error if isinstance(error, CoopsegError) else CoopsegError(f"{path}: {error}"))
        return Report(path, "", 0, 0, tuple(_listed(problems, path)))
    opened = {str(name): open_split(str(name), dataset) for name in splits}
    listed = [*_listed(problems, path), *_passed_over(dataset)]
    if dataset.contradicted:
        fault = Fault("labels-contradicted", contradiction(dataset.labels, dataset.contradicted))
        listed.append(fault.at(""))
    parts = {name: split for name, (split, _) in opened.items() if split is not None}
    adapted = ""
    if adapt:
        changes = read_overrides(settings)
        cases, adapted = _adapt(dataset, cases, parts, changes)
    findings: list[Finding] = []
    volumes: list[Volume] = []
    items = (*dataset.items, *dataset.unlabelled)
    work = partial(examine, labels=dataset.labels, root=dataset.root, settings=cases)
    for found, kept in _examine_all(items, work, workers, progress or (lambda done, total, name: None)):
        findings += found
        volumes += kept
    findings += check_across(dataset, volumes, used=_used(parts) if parts else None)
    listed += check_crop(volumes, cases)
    findings = listed + list(merge_shared(findings, len({file for item in items for file in item.images})))
    for name, (split, broken) in opened.items():
        findings += broken if split is None else check_split(name, split, dataset)
    ordered = _in_order(findings, dataset)
    counts = len(dataset.patients), len(dataset.items)
    lost = sum_lost(volume.lost for volume in volumes if volume.lost)
    crop = describe_lost(lost, cases) if lost.cut else ""
    return Report(path, dataset.layout, *counts, ordered, len(dataset.unlabelled), crop, adapted)


def _adapt(
    dataset: Dataset, cases: CaseSettings, parts: Mapping[str, Parts], given: Collection[str]
) -> tuple[CaseSettings, str]:
    """Returns settings adapted to the patients that trainings by these splits would adapt to, and a line.

    Without a split these are the patients of the random one, or all if they are too few for it. If a file
    cannot be read, the settings stay: a finding will name it.
    """
    if not parts and (drawn := open_split("random", dataset)[0]):
        parts = {"random": drawn}
    names = " and ".join(f"{name}-0" if name == "random" else name for name in parts)
    patients = {name for split in parts.values() for part in ("train", "validate") for name in split[part]}
    whose = describe_trained(patients, names) if parts else ""
    patients = patients if parts else set(dataset.patients)
    try:
        found = adapt_cases(dataset, cases, patients=patients, given=given, whose=whose)
    except CoopsegError as error:
        return cases, f"not adapted to the scans: {error}"
    values = {name.removeprefix("cases."): value for name, value in found.settings.items()}
    return cases.model_copy(update=values), found.line


def _in_order(findings: Sequence[Finding], dataset: Dataset) -> tuple[Finding, ...]:
    """Sorts errors before warnings, the data set as a whole before its files, and files as listed."""
    files = [path for item in dataset.items for path in (*item.images, item.label) if path]
    place = {relative(path, dataset.root): number for number, path in enumerate(files)}
    return tuple(sorted(findings, key=lambda f: (f.severity != "error", place.get(f.file, -1))))


def _listed(problems: Sequence[CoopsegError], root: Path) -> list[Finding]:
    """Returns the findings on the list of volumes; one about the folder itself has no file."""
    faults = [fault_of(error, otherwise="layout", root=root) for error in problems]
    return [fault.at("" if place == str(root) else place) for place, fault in faults]


def _passed_over(dataset: Dataset) -> Iterator[Finding]:
    """Yields a finding for each folder and reason, with the names of what was passed over there."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for entry in dataset.passed_over:
        groups.setdefault((entry.path.parent, entry.reason), []).append(entry.path)
    for (_, reason), paths in groups.items():
        why, _, do = reason.partition("; ")
        place = relative(paths[0], dataset.root)
        others = f", as are {listing([path.name for path in paths[1:]], most=5)}" if paths[1:] else ""
        yield Fault("passed-over", f"not used: {why}{others}", do).at(place)


def _used(parts: dict[str, Parts]) -> set[str]:
    return {patient for split in parts.values() for part in split.values() for patient in part}


def _examine_all(
    items: Sequence[ScanRef],
    work: Callable[[Sequence[ScanRef]], Examined],
    workers: int,
    report: Callable[[int, int, str], None],
) -> Iterator[Examined]:
    """Examines files in the data set's order, in processes if there is more than one worker."""
    groups = group_by_file(items)
    if workers == 1:
        yield from _reported(map(work, groups), groups, report)
        return
    with processes(workers) as side_by_side:
        yield from _reported(side_by_side(work, groups), groups, report)


def _reported(
    results: Iterable[Examined],
    groups: Sequence[Sequence[ScanRef]],
    report: Callable[[int, int, str], None],
) -> Iterator[Examined]:
    for done, (group, result) in enumerate(zip(groups, results, strict=True), start=1):
        yield result
        report(done, len(groups), group[-1].id)
