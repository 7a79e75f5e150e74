"""Evaluates a model on data sets and writes tables, pictures and a record."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from coopseg.cases.splits import Part, Split, find_split, select_part
from coopseg.errors import CoopsegError, PartlyDone, first_of
from coopseg.evaluation.corrupt import MANIFEST, intensities_of_copies
from coopseg.evaluation.evaluate import Predictions, Row, Scored, evaluate
from coopseg.evaluation.expected import Estimate, write_expected
from coopseg.evaluation.metrics import TOLERANCE
from coopseg.evaluation.pictures import write_pictures, write_slices
from coopseg.evaluation.stored import load_stored
from coopseg.evaluation.subject import Subject, find_domain, load_subject, load_target, wrap_callable
from coopseg.evaluation.tables import Summary, write_tables
from coopseg.measures.frames import check_spacing
from coopseg.measures.mending import rules_for
from coopseg.quality.calibration import Calibration, mark_patient
from coopseg.scans.files import write_json
from coopseg.scans.journal import check_free, open_journal
from coopseg.scans.labels import parse_label_names
from coopseg.scans.layouts import notes_on, open_dataset
from coopseg.scans.types import Dataset
from coopseg.text import Json, counted, merge_lines
from coopseg.workers import choose_workers

RECORD, PICTURES = "evaluation.json", "pictures"
NAMED_FOLDER = re.compile(r"(?P<name>[^/\\=]+)=(?P<folder>.+)")


@dataclass(frozen=True)
class Evaluation:
    """Holds the results. rows: see `evaluate`; summaries: see `summarise`; warnings: one line each.

    note: says how many volumes an earlier command had done; "" if there is none. estimates: how good the
    expected Dice was in each data set; none if the model is not calibrated.
    """

    out: Path
    rows: list[Row]
    summaries: list[Summary]
    warnings: tuple[str, ...]
    note: str = ""
    estimates: Sequence[Estimate] = ()


def evaluate_model(
    model: str | Path | None,
    data: str | Path | Dataset | Sequence[str | Path | Dataset],
    out: str | Path,
    *,
    predictor: str | Callable[..., Any] | None = None,
    predictions: str | Path | None = None,
    split: str | Path | None = None,
    part: Part = "test",
    layout: str = "auto",
    labels: str | None = None,
    spacing: str = "true",
    tolerance: float = TOLERANCE,
    refinements: int = 1,
    device: str = "auto",
    precision: str = "32",
    scan_statistics: float | str | None = None,
    trust: Collection[str] = (),
    workers: int | None = None,
    pictures: bool = True,
    resume: bool = False,
    anatomy: bool = False,
    quality: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Score a model's heads on labelled data sets and write tables, pictures and a record into `out`.

    model: run folder or weight file. In its place, with None for it, one of these two:
    predictor: a callable, "module:name" of one, a run folder or an ONNX file; see `wrap_callable`.
    predictions: folder of label maps, by whatever program, one for each volume; see `load_stored`. `labels`
    then names their values, and those of data sets that do not do so.
    data: folders or open data sets, see `open_datasets`. out: new or empty folder. split: restrict data sets
    to the patients of its `part`, see `find_split` and `select_part`; default all. labels: "LV=1,MYO=2", see
    `open_datasets`. spacing: "nominal" if headers hold no true spacing; HD95, ASSD and NSD are then left out.
    tolerance: of the NSD, mm.
    scan_statistics: K or "off" in place of the model's prediction.scan_statistics. trust: see
    `load_model`. workers: volumes to score at once, default one per core; the scores do not depend on it.
    progress: called as (volumes done, volumes in all, volume).
    Writes cases.csv, metrics.json, metrics.md (see `write_tables`), pictures/ of the worst, median and best
    case of each data set, slices.npz (see `write_slices`) and evaluation.json: model, settings, versions,
    patients, each data set's domain (see `find_domain`), the index of slices.npz and warnings, such as
    patients whose names are among those that the model was trained or selected on. pictures: false to leave
    out all that shows a scan. resume: go on in an `out` that an earlier call with the same model and settings
    has left; volumes whose scores done.jsonl has are not scored again unless their files have changed.
    anatomy: mend every prediction before it is scored, see `mend`. quality: if the model is calibrated, also
    compare the Dice that is expected of each volume with the true one, in quality.csv and evaluation.json.
    Raises CoopsegError for anything wrong with model or data set, or with every volume; `out` is then as it
    was. Raises PartlyDone, a CoopsegError, if only some volumes cannot be used, when the others are scored.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = coopseg.train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> found = evaluate_model(run, scans, folder / "out", split=run, device="cpu", pictures=False)
    >>> [row["class"] for row in found.rows][:3]
    ['RV', 'MYO', 'LV']
    """
    asked = {"--model": model, "--predictor": predictor, "--predictions": predictions}
    if len(found := [name for name, value in asked.items() if value is not None]) != 1:
        raise CoopsegError(f"give one of {', '.join(asked)}; found {' and '.join(found) or 'none'}")
    if model is None and (refinements != 1 or scan_statistics is not None):
        raise CoopsegError(f"--refine and --scan-statistics are for --model; leave them out with {found[0]}")
    subject = None
    if model is not None:
        subject = load_subject(
            model,
            refinements=refinements,
            device=device,
            precision=precision,
            scan_statistics=scan_statistics,
            trust=trust,
            quality=quality,
        )
    rename = False if predictions is not None else None
    datasets = open_datasets(data, layout=layout, labels=labels, rename=rename, lost_too=True)
    given = parse_label_names(labels) if labels else None
    notes: list[str] = []
    if predictions is not None:
        subject, notes = load_stored(Path(predictions), datasets, labels=given)
    elif subject is None:
        names = datasets[0].labels.names
        subject = _load_predictor(predictor, names, device=device, precision=precision, trust=trust)
    if given and predictions is None:
        kept = [each for each in datasets if each.labels.meaning != given.meaning]
        notes += [f"{each.name}: names its labels itself; --labels is not used for it" for each in kept]
    if split is not None:
        chosen = find_split(split)
        datasets = [select_part(dataset, chosen, part) for dataset in datasets]
    return evaluate_subject(
        subject,
        datasets,
        out,
        split=None if split is None else {"name": str(split), "part": part},
        spacing=spacing,
        tolerance=tolerance,
        workers=workers,
        pictures=pictures,
        progress=progress,
        notes=notes,
        resume=resume,
        anatomy=anatomy,
        go_on=True,
    )


def _load_predictor(
    predictor: str | Callable[..., Any] | None, names: tuple[str, ...], **how: Any
) -> Subject:
    """Loads a predictor, given as a callable or, perhaps as NAME=TARGET, by its target; see `load_target`."""
    if callable(predictor):
        name = getattr(predictor, "__qualname__", type(predictor).__qualname__)
        target = f"{getattr(predictor, '__module__', '')}:{name}"
        return wrap_callable(name, predictor, target=target, classes=names)
    name, path = name_and_folder(str(predictor))
    return load_target(name or path.name, str(path), classes=names, **how)


def evaluate_subject(
    subject: Subject,
    datasets: Sequence[Dataset],
    out: str | Path,
    *,
    split: dict[str, str] | None = None,
    spacing: str = "true",
    tolerance: float = TOLERANCE,
    workers: int | None = None,
    pictures: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
    notes: Sequence[str] = (),
    resume: bool = False,
    anatomy: bool = False,
    go_on: bool = False,
) -> Evaluation:
    """Does what `evaluate_model` does, for anything that predicts, on all volumes of opened data sets.

    split: name and part of the split that the data sets were restricted to, for the record. notes: what is to
    be said beside the warnings about the data. go_on: score the rest if some volumes cannot be used, then
    raise PartlyDone; otherwise the first of them is raised.
    """
    out = Path(out)
    if anatomy:
        subject = replace(subject, facts=replace(subject.facts, anatomy=rules_for(subject.names)))
    check_free(out, resume=resume)
    _check_measures(spacing, tolerance)
    left = tuple(f"{each.name}: {line}" for each in datasets for line in notes_on(each))
    warnings = (*notes, *left, *subject.warnings(datasets), *_scaled_otherwise(subject, datasets))
    workers = choose_workers(workers, volumes=sum(len(dataset.items) for dataset in datasets))
    predictions = Predictions(
        subject.predict,
        names=subject.names,
        settings=subject.settings,
        keep=pictures,
        in_turn=subject.in_turn,
        recall=subject.recall,
        judge=subject.judge,
        anatomy=anatomy,
    )
    if subject.judge:
        warnings += tuple(_calibrated_with(subject.judge.calibration, datasets))
    failed = list[CoopsegError]()
    facts = subject.facts.deciding | {"spacing": spacing, "tolerance": tolerance}
    with open_journal(out, Scored, facts, resume=resume) as journal:
        rows = evaluate(
            predictions,
            datasets,
            spacing_is_true=spacing == "true",
            tolerance=tolerance,
            workers=workers,
            progress=progress,
            journal=journal,
            failed=failed if go_on else None,
        )
        if failed and not rows:
            raise first_of(failed)
        used = _used(datasets, rows)
        left_out = _left_out(datasets, used)
        warnings += (*merge_lines(sorted(predictions.warnings)), *left_out)
        summaries = write_tables(rows, out, notes=left_out, tolerance=tolerance)
        estimates = list[Estimate]()
        if subject.judge:
            bad = subject.judge.calibration.bad
            estimates = write_expected(rows, predictions.expected, subject.head, out, bad=bad)
        slices = []
        if pictures:
            write_pictures(predictions, used, rows, head=subject.head, out=out / PICTURES)
            slices = write_slices(predictions, used, out=out)
        record = asdict(subject.facts) | {
            "data": [_describe(dataset, subject.trained) for dataset in used],
            "failed": [str(error) for error in failed],
            "slices": slices,
            "split": split,
            "spacing": spacing,
            "nsd_tolerance": tolerance,
            "expected_dice": [asdict(each) for each in estimates],
            "warnings": warnings,
        }
        write_json(out / RECORD, record)
    found = Evaluation(out, rows, summaries, warnings, journal.describe_skipped("volume"), estimates)
    if failed:
        raise PartlyDone(failed, found, out, sum(len(dataset.items) for dataset in datasets))
    return found


def open_datasets(
    data: str | Path | Dataset | Sequence[str | Path | Dataset],
    *,
    layout: str = "auto",
    labels: str | None = None,
    rename: bool | None = None,
    lost_too: bool = False,
) -> list[Dataset]:
    """Opens the data sets of folders, each given as FOLDER or NAME=FOLDER; open ones stay as they are.

    labels: "LV=1,MYO=2". rename: whether it also replaces names that a data set has itself; by default only
    where one folder is given, since the values of two data sets seldom mean the same. lost_too: see
    `open_dataset`.
    The output of `corrupt`, known by its manifest.json, counts as the data sets in it, named NAME/KIND if a
    name is given. Raises CoopsegError as `open_dataset` does, and if two data sets share a name.
    """
    given = parse_label_names(labels) if labels else None
    entries = [data] if isinstance(data, str | Path | Dataset) else data
    rename = len(entries) == 1 if rename is None else rename
    found: list[Dataset] = []
    for entry in entries:
        if isinstance(entry, Dataset):
            found.append(entry)
            continue
        name, folder = name_and_folder(entry)
        corrupted = (folder / MANIFEST).is_file()
        kinds = sorted(file.parent for file in folder.glob("*/dataset.json")) if corrupted else []
        for path in kinds or [folder]:
            dataset = open_dataset(path, layout=layout, labels=given if rename else None, lost_too=lost_too)
            if given and not dataset.labels.are_named:
                dataset = replace(dataset, labels=given)
            if name:
                dataset = replace(dataset, name=f"{name}/{dataset.name}" if kinds else name)
            found.append(dataset)
    names = [dataset.name for dataset in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CoopsegError(f"two data sets are called {twice!r}; name them, as --data NAME=FOLDER")
    return found


def name_and_folder(entry: str | Path) -> tuple[str, Path]:
    """Splits NAME=FOLDER into both; a plain FOLDER, or any path that exists, gets an empty name."""
    match = NAMED_FOLDER.fullmatch(str(entry))
    if match is None or Path(entry).exists():
        return "", Path(entry)
    return match["name"], Path(match["folder"])


def _scaled_otherwise(subject: Subject, datasets: Sequence[Dataset]) -> Iterator[str]:
    """Yields a line for copies whose intensities became [0, 1] by another rule than the model's."""
    if subject.made_elsewhere:
        for dataset in datasets:
            if intensities_of_copies(dataset):
                yield (
                    f"{dataset.name}: its copies are cropped, resampled and scaled to [0, 1], on which a "
                    "model made elsewhere may fail whatever the artefact; make them anew by `coopseg corrupt "
                    "--grid scan`"
                )
        return
    wanted = subject.settings.intensities
    for dataset in datasets:
        found = intensities_of_copies(dataset) or wanted
        if wrong := [key for key in wanted if found[key] != wanted[key]]:
            apart = ", ".join(f"cases.{key} {found[key]}, the model has {wanted[key]}" for key in wrong)
            yield (
                f"{dataset.name}: its copies were scaled by {apart}; the scores say little, make the copies "
                f"anew by `coopseg corrupt --split {subject.source}`"
            )


def _calibrated_with(calibration: Calibration, datasets: Sequence[Dataset]) -> Iterator[str]:
    """Yields a line for each data set with patients that, by name, the model was calibrated with."""
    for dataset in datasets:
        if seen := [name for name in dataset.patients if mark_patient(name) in calibration.known]:
            yield (
                f"{dataset.name}: {len(seen)} of {len(dataset.patients)} patients bear names of those that "
                "the model was calibrated with; if they are the same, the expected Dice looks too good"
            )


def _check_measures(spacing: str, tolerance: float) -> None:
    check_spacing(spacing)
    if not 0 <= tolerance < math.inf:
        raise CoopsegError(f"tolerance must be 0 mm or more, found {tolerance}")


def _used(datasets: Sequence[Dataset], rows: Sequence[Row]) -> list[Dataset]:
    """Returns the data sets with the volumes that have rows, without those that have none."""
    scored = {(row["dataset"], row["case"]) for row in rows}
    used = (
        replace(each, items=tuple(ref for ref in each.items if (each.name, ref.id) in scored))
        for each in datasets
    )
    return [dataset for dataset in used if dataset.items]


def _left_out(datasets: Sequence[Dataset], used: Sequence[Dataset]) -> tuple[str, ...]:
    """Returns a line for each data set of which volumes have no scores: means are over fewer patients."""
    by_name, lines = {dataset.name: dataset for dataset in used}, []
    for dataset in datasets:
        kept = by_name.get(dataset.name, replace(dataset, items=()))
        if left := len(dataset.items) - len(kept.items):
            volumes = f"{left} of {counted(len(dataset.items), 'volume')} left out"
            patients = f"{len(kept.patients)} of {counted(len(dataset.patients), 'patient')}"
            lines.append(f"{dataset.name}: {volumes}, since they cannot be used; scores are of {patients}")
    return tuple(lines)


def _describe(dataset: Dataset, trained: Split | None) -> Json:
    return {
        "name": dataset.name,
        "domain": find_domain(dataset, trained),
        "folder": str(dataset.root),
        "layout": dataset.layout,
        "patients": dataset.patients,
        "volumes": len(dataset.items),
    }
