"""Reads run folders, and the evaluations that belong to them by the model's SHA-256, as a study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError, safe_open

from coopseg.cases.splits import RUN
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import RECORD, name_and_folder
from coopseg.evaluation.tables import METRICS
from coopseg.inference.model import find_weights
from coopseg.inference.predictor import HEADS
from coopseg.results.patients import per_patient
from coopseg.results.records import (
    EvaluationFile,
    LogLine,
    MetricsFile,
    RunFile,
    check_record,
    read_checked,
)
from coopseg.results.study import STEPS, WHOLE, DataSet, Jobs, Row, Study, Trained
from coopseg.scans.files import is_file
from coopseg.text import Json, read_text

LOG = "log.jsonl"
BASELINE = "standard"  # the method that others are held against, if it is there


@dataclass(frozen=True)
class Evaluated:
    """One folder of `coopseg evaluate`: its evaluation.json, and the rows of metrics.json."""

    folder: Path
    record: Json
    rows: list[Json]


@dataclass(frozen=True)
class Run:
    """One training: its run.json and log, with what was evaluated of its last weights.

    method: the name under which it is shown; runs of one name are pooled. label: its own name among them.
    elsewhere: whether it stands for a model that was not trained here, of which nothing but evaluations is
    known.
    """

    method: str
    label: str
    folder: Path
    sha256: str
    record: Json
    log: list[Json]
    evaluations: tuple[Evaluated, ...] = field(default=())
    elsewhere: bool = False

    @property
    def rows(self) -> list[Json]:
        """The rows of all evaluations; see `coopseg.evaluation.evaluate.COLUMNS`."""
        return [row for evaluation in self.evaluations for row in evaluation.rows]

    @property
    def heads(self) -> tuple[str, ...]:
        """Returns the heads that it was trained with."""
        return HEADS if self.record["settings"]["losses"]["stn"] else HEADS[:1]

    @property
    def data(self) -> tuple[DataSet, ...]:
        """Returns the data sets that it was tested on."""
        entries = [entry for evaluation in self.evaluations for entry in evaluation.record["data"]]
        return tuple(
            DataSet(one["name"], one["domain"], tuple(one["patients"]), one["volumes"]) for one in entries
        )


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Returns the runs of each method, in the order given."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.method, []).append(run)
    return found


def as_study(runs: Sequence[Run]) -> Study:
    """Makes a study of runs: a row a method, held against the one trained as "standard", else the first.

    Runs trained on the same patients are of one draw; draws are numbered if there are several. A model made
    elsewhere has no draw, and is a baseline only if there is nothing else.
    """
    methods = by_method(runs)
    baseline = min(
        methods,
        key=lambda name: (
            methods[name][0].elsewhere, methods[name][0].record["settings"]["method"] != BASELINE,
        ),
    )  # fmt: skip
    patients = list(dict.fromkeys(_patients(run) for run in runs if not run.elsewhere))
    draws = {key: str(place) if len(patients) > 1 else WHOLE for place, key in enumerate(patients, start=1)}
    draws = {(): WHOLE} | draws
    keys = [(run.method, draws[_patients(run)], run.record["settings"]["seed"]) for run in runs]
    trained = []
    for place, (run, (method, draw, seed)) in enumerate(zip(runs, keys, strict=True)):
        again = keys[:place].count(keys[place])
        name = f"{seed} ({again + 1})" if keys.count(keys[place]) > 1 else seed
        if run.evaluations:
            scores = per_patient(pd.DataFrame(run.rows))
            trained.append(Trained(method, draw, name, scores, run.data, predictor=run.elsewhere))
    return Study(
        tuple(_row(name, own, trained) for name, own in methods.items()),
        tuple(trained),
        (baseline,),
        pooled=True,
    )


def _patients(run: Run) -> tuple[str, ...]:
    return tuple(run.record["split"]["train"])


def _row(name: str, runs: Sequence[Run], trained: Sequence[Trained]) -> Row:
    own = [one for one in trained if one.row == name]
    seen = [one for one in own if not one.predictor]  # the training of a predictor is not known
    return Row(
        name=name,
        title=name,
        heads=max((run.heads for run in runs), key=len),
        jobs={STEPS: Jobs(len(own), 0, len(runs) if own else 0)},
        predictor=len(seen) < len(own),
        draws=tuple(dict.fromkeys(one.draw for one in seen)),
        seeds=tuple(dict.fromkeys(one.seed for one in seen)),
    )


def read_runs(runs: Sequence[str | Path], *, evaluations: Sequence[str | Path] = ()) -> list[Run]:
    """Run folders, each RUN or NAME=RUN, with their evaluations.

    evaluations: folders of `coopseg evaluate` beside those that lie directly in a run folder. Without NAME
    a run is called by the method in its settings. In place of a run folder stands the evaluation of a model
    made elsewhere, or several of one NAME.
    Raises CoopsegError for what is no run folder or no evaluation, a folder given twice, an evaluation of no
    given run, and a data set that was evaluated twice for one run.
    """
    if not runs:
        raise CoopsegError("there is nothing to report: give one or more folders of `coopseg train --out`")
    entries = [name_and_folder(entry) for entry in runs]
    paths = [folder.resolve() for _, folder in entries]
    if twice := next((folder for _, folder in entries if paths.count(folder.resolve()) > 1), None):
        raise CoopsegError(f"{twice}: given twice; give each run once")
    apart = [entry for entry in entries if _is_elsewhere(entry[1])]
    elsewhere = _pool([_read_elsewhere(*entry) for entry in apart])
    found = [read_run(*entry) for entry in entries if entry not in apart]
    beside = [file.parent for run in found for file in sorted(run.folder.glob(f"*/{RECORD}"))]
    folders = {Path(folder).resolve(): Path(folder) for folder in (*beside, *evaluations)}
    evaluated = [read_evaluation(folder) for folder in folders.values()]
    return [*_match(_label(found), evaluated), *elsewhere]


def _is_elsewhere(folder: Path) -> bool:
    """Tells whether a folder is an evaluation, not a run."""
    return is_file(folder / RECORD) and not is_file(folder / RUN)


def _read_elsewhere(name: str, folder: Path) -> Run:
    """Reads the evaluation of a model made elsewhere, as a run of which only the scores are known."""
    evaluation = read_evaluation(folder)
    model = evaluation.record["model"]
    if evaluation.record.get("model_settings") is not None:
        raise CoopsegError(f"{folder}: evaluates {model['path']}; give the run folder, its training")
    method = name or Path(model["path"]).name
    unknown = {"name": "unknown", "train": [], "validate": [], "test": []}
    record = {
        "settings": {"method": method, "seed": 0, "losses": {"stn": False}}, "split": unknown,
        "data": {"name": "unknown", "labels": model["names"]},
    }  # fmt: skip
    return Run(method, "made elsewhere", folder, "", record, [], (evaluation,), elsewhere=True)


def _pool(runs: Sequence[Run]) -> list[Run]:
    """Puts the evaluations of models made elsewhere together, by name."""
    pooled = []
    for own in by_method(runs).values():
        evaluations = tuple(entry for run in own for entry in run.evaluations)
        _check_once(own[0], evaluations)
        pooled.append(replace(own[0], evaluations=evaluations))
    return pooled


def read_run(name: str, folder: Path) -> Run:
    """One run folder, without its evaluations. Raises CoopsegError where it is none."""
    if not is_file(folder / RUN) and any(folder.glob(f"*/{RUN}")):
        raise CoopsegError(f"{folder}: is no run folder but holds some; name them, as {folder}/*")
    record = read_checked(RunFile, folder / RUN, "give the --out of a finished `coopseg train`")
    log = _read_log(folder / LOG) if (folder / LOG).is_file() else []
    weights = find_weights(folder)
    try:
        with safe_open(weights, "np") as stored:
            sha256 = (stored.metadata() or {}).get("sha256", "")
    except (SafetensorError, OSError) as error:
        raise CoopsegError(f"{weights}: cannot be read as safetensors ({error}); copy it again") from None
    method, seed = record["settings"]["method"], record["settings"]["seed"]
    return Run(name or method, f"seed {seed}", folder, sha256, record, log)


def read_evaluation(folder: Path) -> Evaluated:
    """One folder of `coopseg evaluate`. Raises CoopsegError where it is none."""
    advice = "give the --out of `coopseg evaluate`, or evaluate again with this version"
    record = read_checked(EvaluationFile, folder / RECORD, advice)
    return Evaluated(folder, record, read_checked(MetricsFile, folder / METRICS, advice)["rows"])


def _label(runs: list[Run]) -> list[Run]:
    """Runs of one method and seed, such as of two draws of patients, told apart by a number."""
    labels = [(run.method, run.label) for run in runs]
    numbers = [labels[: place + 1].count(label) for place, label in enumerate(labels)]
    return [
        replace(run, label=f"{run.label} ({number})") if labels.count(label) > 1 else run
        for run, label, number in zip(runs, labels, numbers, strict=True)
    ]


def _match(runs: list[Run], evaluated: list[Evaluated]) -> list[Run]:
    known = {run.sha256 for run in runs}
    for evaluation in evaluated:
        model = evaluation.record["model"]
        if model.get("sha256") not in known:
            raise CoopsegError(
                f"{evaluation.folder}: evaluates {model['path']} "
                f"(SHA-256 {(model.get('sha256') or 'none')[:12]}), not the "
                "last weights of a run given here; give its run or leave it out"
            )
    matched = []
    for run in runs:
        own = tuple(entry for entry in evaluated if entry.record["model"].get("sha256") == run.sha256)
        _check_once(run, own)
        matched.append(replace(run, evaluations=own))
    return matched


def _check_once(run: Run, evaluations: tuple[Evaluated, ...]) -> None:
    seen: dict[str, Path] = {}
    for evaluation in evaluations:
        for entry in evaluation.record["data"]:
            if entry["name"] in seen:
                raise CoopsegError(
                    f"{run.folder}: {entry['name']} was evaluated in {seen[entry['name']]} and in "
                    f"{evaluation.folder}; keep one"
                )
            seen[entry["name"]] = evaluation.folder


def _read_log(path: Path) -> list[Json]:
    lines = []
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        try:
            values = json.loads(text, parse_constant=_nothing)
        except (ValueError, RecursionError):
            raise CoopsegError(f"{path}: line {number} is no JSON; remove it") from None
        check_record(LogLine, values, path, f"remove line {number}")
        lines.append(values)
    return lines


def _nothing(constant: str) -> None:
    """NaN and infinities, which JSON does not have, are numbers that are not there."""
