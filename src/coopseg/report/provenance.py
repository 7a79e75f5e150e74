"""Where the numbers come from: settings, versions, time, memory, commands and warnings of every training."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from coopseg.benchmark.collect import Collected
from coopseg.inference.predictor import HEADS
from coopseg.report.page import Block, Code, Fold, Grid, Note
from coopseg.report.sources import Evaluated, Run, by_method
from coopseg.results.records import best_of
from coopseg.results.shown import Heading, Line, Shown, Table, number_text
from coopseg.results.table import Results
from coopseg.text import Json, clock, counted, flatten

REQUEST_SHOWN = (
    "data", "cross", "split", "preset", "settings", "precision", "device", "layout", "labels", "spacing",
    "copies", "seed_of_corruption", "equal_time", "severities", "severity_methods", "predictors", "blocks",
)  # fmt: skip


def settings_table(runs: Sequence[Run], *, differing: bool = False) -> Table:
    """Returns every setting with its values by method. differing: only those not the same in all runs."""
    flat = _flat(runs)
    lines = [
        Line((key,), tuple(Shown(", ".join(map(setting_text, own))) for own in values))
        for key in dict.fromkeys(key for own in flat.values() for settings in own for key in settings)
        if (values := [distinct(settings.get(key) for settings in own) for own in flat.values()])
        and not (differing and len(distinct(value for own in values for value in own)) == 1)
    ]
    return Table(("setting",), tuple(map(Heading, flat)), tuple(lines))


def pooled_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Returns for each method the settings beside the seed in which its own runs differ, if there are any."""
    found = {
        name: [
            key
            for key in dict.fromkeys(key for settings in own for key in settings)
            if key != "seed" and len(distinct(settings.get(key) for settings in own)) > 1
        ]
        for name, own in _flat(runs).items()
    }
    return {name: keys for name, keys in found.items() if keys}


def _flat(runs: Sequence[Run]) -> dict[str, list[Json]]:
    methods = by_method(_trained(runs)).items()
    return {name: [flatten(run.record["settings"]) for run in own] for name, own in methods}


def _trained(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs whose training is known."""
    return [run for run in runs if not run.elsewhere]


def distinct(values: Iterable[Any]) -> list[Any]:
    """Returns each value once, in order; they need not be hashable."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def setting_text(value: Any) -> str:
    """Writes a setting as one would on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def runs_table(runs: Sequence[Run]) -> Table:
    """Returns the facts of each run: on what patients, how long, on what machine, and its validation."""
    titles = (
        "trained on", "patients: train / val. / test", "slices", "steps", "time, h:min:s", "seconds a step",
        "peak memory, GB", "device", "last validation Dice", "best, at step", "started",
    )  # fmt: skip
    lines = [Line((run.method, run.label), tuple(map(Shown, _facts(run.record)))) for run in _trained(runs)]
    return Table(("method", "run"), tuple(map(Heading, titles)), tuple(lines), "Runs")


def _facts(record: Mapping[str, Any]) -> Iterator[str]:
    yield record["data"]["name"]
    yield " / ".join(str(len(record["split"][part])) for part in ("train", "validate", "test"))
    yield from (_known(record.get(key)) for key in ("slices", "steps"))
    yield clock(record["seconds"]) if record.get("seconds") is not None else "–"
    yield number_text(record.get("seconds_per_step"))
    yield number_text(record.get("peak_memory_gb"), 2)
    threads, processes = record.get("threads"), record.get("processes") or 1
    device = [_known(record.get("device"))]
    device += [f"{threads} thread{'s' if threads != 1 else ''}"] if threads else []
    yield ", ".join([*device, *([f"{processes} processes"] if processes > 1 else [])])
    last = (record.get("validations") or [{}])[-1]
    heads = [head for head in HEADS if head in last]
    yield "; ".join(f"{head} {last[head]['mean']:.3f}" for head in heads) or "–"
    best = [best_of(record, head) for head in heads]
    yield "; ".join(f"{one[0]:.3f}, {one[1]}" if one else "–" for one in best) or "–"
    yield _known(record.get("started"))[:16].replace("T", " ")


def _known(value: Any) -> str:
    return "–" if value is None else str(value)


def command_text(words: Sequence[str] | None) -> str:
    """Writes a command as one would type it; the program's own path says nothing."""
    if not words:
        return ""
    name = Path(words[0]).name
    program = ["python", "-m", "coopseg"] if name == "__main__.py" else [name]
    return shlex.join([*program, *words[1:]])


def evaluation_text(found: Evaluated) -> str:
    """Says how an evaluation was made."""
    record = found.record
    k = record.get("scan_statistics")
    return (
        f"{found.folder}: on {_known(record.get('device'))}, precision {_known(record.get('precision'))}, "
        f"STN applied {_known(record.get('refinements'))}×, scan statistics "
        f"{'off' if k is None else f'K = {k:g}'}, spacing {_known(record.get('spacing'))}"
    )


def warnings_of(run: Run) -> list[str]:
    """Returns the warnings of a training and of its evaluations."""
    records = [run.record, *(entry.record for entry in run.evaluations)]
    return [line for record in records for line in record.get("warnings", [])]


def versions_table(records: Iterable[Mapping[str, Any]]) -> Table:
    """Returns the distinct versions of each library that wrote these records."""
    used = [record.get("versions", {}) for record in records]
    lines = []
    for key in dict.fromkeys(key for versions in used for key in versions):
        found = distinct(versions[key] for versions in used if key in versions)
        lines.append(Line((key, f"{', '.join(found)}{' (they differ)' if len(found) > 1 else ''}"), ()))
    return Table(("what", "version"), (), tuple(lines))


def records_of(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    """Returns the records of all trainings and evaluations."""
    return [record for run in runs for record in (run.record, *(one.record for one in run.evaluations))]


def rows_table(results: Results) -> Table:
    """Returns what each row is, as --methods takes it."""
    lines = [
        Line(
            (row.title, row.name, "; ".join(filter(None, [row.description, row.note])) or "–",
             ", ".join(row.heads), " ".join(draw for draw in row.draws if draw != "-") or "–",
             " ".join(map(str, row.seeds)) or "–"),
            (),
        )
        for row in results.rows
    ]  # fmt: skip
    names = ("method", "as --methods takes it", "what it is", "heads", "draws", "seeds")
    return Table(names, (), tuple(lines), "Methods")


def request_table(found: Collected) -> Table:
    """Returns what the benchmark was asked for."""
    request = found.request.model_dump(mode="json")
    facts = {"folder": str(found.folder), "started": (request["started"] or "–").replace("T", " ")}
    facts |= {key: setting_text(request[key]) for key in REQUEST_SHOWN}
    return Table(("request", ""), (), tuple(Line(fact, ()) for fact in facts.items()), "Request")


def jobs_table(found: Collected) -> Table:
    """Returns every job with its time and warnings."""
    lines = []
    for entry in found.jobs:
        warned = [*entry.run.get("warnings", []), *entry.evaluation.get("warnings", [])]
        result = entry.result
        spent = [result.training_seconds, result.seconds] if result else [None, None]
        shown = (
            _known(entry.run.get("steps")),
            *(clock(seconds) if seconds else "–" for seconds in spent),
            _known(result and result.finished).replace("T", " "),
            _known(result and result.machine),
            "; ".join(warned) or "–",
        )
        lines.append(Line((entry.job.id, entry.state), tuple(map(Shown, shown))))
    titles = ("steps", "training", "whole job", "finished", "machine", "warnings")
    return Table(("job", "state"), tuple(map(Heading, titles)), tuple(lines), "All jobs")


def of_runs(runs: Sequence[Run]) -> Iterator[Block]:
    """Yields settings, facts, warnings, versions and commands of runs."""
    differing = settings_table(runs, differing=True)
    if differing.lines:
        yield Grid(differing.called("Settings that differ"))
    else:
        alone = "there is one run" if len(runs) == 1 else "all runs share every setting"
        yield Note(f"Settings that differ: none, {alone}.", "plain")
    if _trained(runs):
        yield Fold("All settings", (Grid(settings_table(runs)),))
        yield Grid(runs_table(runs))
    warned = [(run, lines) for run in runs if (lines := warnings_of(run))]
    for run, lines in warned:
        title = f"{run.method}, {run.label}: {counted(len(lines), 'warning')}"
        yield Fold(title, tuple(Note(line, "plain") for line in lines))
    if not warned:
        yield Note("No run gave a warning.", "plain")
    yield Fold("Versions", (Grid(versions_table(records_of(runs))),))
    commands = tuple(block for run in runs for block in _commands(run))
    yield Fold("Commands, folders, SHA-256", commands)


def _commands(run: Run) -> Iterator[Block]:
    split = run.record["split"]["name"]
    if run.elsewhere:
        models = ", ".join(entry.record["model"]["path"] for entry in run.evaluations)
        yield Note(f"{run.method}, {run.label}: {models}")
    else:
        yield Note(f"{run.method}, {run.label}: {run.folder}, weights {run.sha256[:16]}…, split {split}")
        yield Code(command_text(run.record.get("command")))
    for entry in run.evaluations:
        yield Note(evaluation_text(entry))
        yield Code(command_text(entry.record.get("command")))


def of_benchmark(results: Results, found: Collected) -> Iterator[Block]:
    """Yields methods, request, jobs and versions of a benchmark."""
    yield Grid(rows_table(results))
    yield Grid(request_table(found))
    yield Code(command_text(found.request.command))
    yield Fold("All jobs", (Grid(jobs_table(found)),))
    records = [record for entry in found.jobs for record in (entry.run, entry.evaluation)]
    yield Fold("Versions", (Grid(versions_table([{"versions": found.request.versions}, *records])),))
