"""Makes a report of run folders and their evaluations, or of a benchmark: one page and one JSON file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from coopseg import __version__
from coopseg.benchmark.collect import Collected, JobRecord, collect
from coopseg.benchmark.grid import AGAIN, EVALUATION
from coopseg.benchmark.request import REQUEST
from coopseg.evaluation.pictures import SLICES
from coopseg.evaluation.tables import METRICS
from coopseg.report.answer import Answer, answer, ask
from coopseg.report.cases import all_volumes, slowest_table, worst_tables
from coopseg.report.pictures import (
    Stored,
    class_colours,
    hard_examples,
    slice_pictures,
    stored_of_runs,
)
from coopseg.report.provenance import runs_table, settings_table
from coopseg.report.sections import Report, render
from coopseg.report.sources import Run, as_study, read_runs
from coopseg.report.training import learning_rates, loss_curves, rises, validation_curves
from coopseg.results.records import MetricsFile, read_checked
from coopseg.results.shown import as_text
from coopseg.results.statistics import as_json
from coopseg.results.study import WHOLE
from coopseg.results.table import Results, tabulate, to_json
from coopseg.results.tables import few_note, score_table
from coopseg.scans.files import check_new, is_file, new_folder, write_atomically
from coopseg.text import Json

PAGE, CONTENT, REPORT = "report.html", "report.json", "report"


def write_report(
    runs: str | Path | Sequence[str | Path], out: str | Path, *, evaluations: Sequence[str | Path] = ()
) -> Path:
    """Write OUT/report.html, a page that needs no other file, and OUT/report.json, all that it shows.

    runs: folders of `train`, each RUN or NAME=RUN. Runs of one NAME, by default the method in their
    settings, are seeds or draws of one method and are pooled. evaluations: folders of `evaluate` beside those
    that lie directly in a run folder; each belongs to the run whose last weights it evaluated. A model made
    elsewhere, evaluated by `predictor` or `predictions`, is given by the folder of its evaluation in place of
    a run. out: new or empty folder, filled whole or not at all. Returns the path of the page.
    Raises CoopsegError as `read_runs` does.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = coopseg.train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> write_report(run, folder / "report").name
    'report.html'
    """
    check_new(Path(out))
    listed = [runs] if isinstance(runs, str | Path) else list(runs)
    return _write(report_of_runs(read_runs(listed, evaluations=evaluations)), Path(out))


def write_benchmark_report(bench: str | Path, out: str | Path | None = None) -> Path:
    """Write report.html and report.json on a folder of `benchmark`, finished or not.

    out: new or empty folder, filled whole or not at all; default BENCH/report, whose two files are replaced,
    so that it can be written again as jobs finish. Returns the path of the page.
    Raises CoopsegError where `bench` is no such folder.
    """
    if out is None:
        return _fill(report_of_benchmark(Path(bench)), Path(bench) / REPORT)
    check_new(Path(out))
    return _write(report_of_benchmark(Path(bench)), Path(out))


def is_benchmark(folder: str | Path) -> bool:
    """Tells whether it is a folder of `benchmark`."""
    return is_file(Path(folder) / REQUEST)


def report_of_runs(runs: Sequence[Run]) -> Report:
    """Collects all that a page on these runs shows."""
    study = as_study(runs)
    results = tabulate(study)
    classes = list(dict.fromkeys(name for run in runs for name in run.record["data"]["labels"]))
    heads = results.last_heads
    question, found = ask(results), answer(results)
    return Report(
        kind="coopseg report",
        created=time.strftime("%Y-%m-%d %H:%M"),
        coopseg=__version__,
        question=question,
        answer=found,
        summary=summary(results, question, found),
        results=results,
        classes=class_colours(classes),
        slices=tuple(slice_pictures(stored_of_runs(runs, heads), results.columns)),
        study=study,
        runs=tuple(runs),
        volumes=all_volumes(runs, heads),
        hard_examples=tuple(hard_examples(runs)),
    )


def report_of_benchmark(bench: Path) -> Report:
    """Collects all that a page on a benchmark folder shows. Raises CoopsegError where it is none."""
    collected = collect(bench)
    results, finished = collected.results, [job for job in collected.jobs if job.state == "finished"]
    names: list[str] = next((job.evaluation["model"]["names"] for job in finished), [])
    question, found = ask(results), answer(results)
    return Report(
        kind="coopseg benchmark",
        created=time.strftime("%Y-%m-%d %H:%M"),
        coopseg=__version__,
        question=question,
        answer=found,
        summary=summary(results, question, found),
        results=results,
        classes=class_colours(names),
        slices=tuple(slice_pictures(_stored(collected), results.columns)),
        study=collected.study,
        collected=collected,
    )


def _stored(collected: Collected) -> Iterator[Stored]:
    """Of each row the first finished draw at equal steps whose evaluation stored pictures."""
    for row in collected.study.rows:
        jobs = [job for job in collected.jobs_of(row.name) if job.state == "finished"]
        stored = [job for job in jobs if (job.folder / EVALUATION / SLICES).is_file()]
        if stored:
            first: JobRecord = min(stored, key=lambda entry: (entry.job.draw, entry.job.seed))
            folder = first.folder / EVALUATION
            note = "" if first.job.draw == WHOLE else first.job.draw
            rows = read_checked(MetricsFile, folder / METRICS, AGAIN)["rows"]
            yield Stored(row.name, note, row.heads[-1], folder, first.evaluation, rows)


def summary(results: Results, question: str, found: Answer) -> str:
    """Returns question, verdict and the table of Dice for a terminal; `*` marks the best of a column."""
    table = [line for line in (as_text(score_table(results)), few_note(results)) if line and results.columns]
    return "\n".join([question, found.verdict, *found.notes, *([""] if table else []), *table])


def contents(report: Report) -> Json:
    """Returns all that a page shows in JSON types, without NaN."""
    results, runs = report.results, report.runs
    slowest = slowest_table(results, report.volumes)
    content = {
        name: as_json(getattr(report, name))
        for name in (
            "created", "coopseg", "question", "answer", "summary", "classes", "slices", "hard_examples",
        )
    }  # fmt: skip
    content["results"] = to_json(results)
    if report.collected:
        content["request"] = report.collected.request.model_dump(mode="json")
    if runs:
        content |= {
            "volumes": as_json(report.volumes),
            "worst": as_json(worst_tables(results, report.volumes)),
            "slowest": as_json(slowest),
            "settings": as_json(settings_table(runs)),
            "runs": as_json(runs_table(runs)),
            "training": {
                "losses": as_json(loss_curves(runs)),
                "validation": as_json(validation_curves(runs)),
                "learning_rate": as_json(learning_rates(runs)),
                "rises": as_json(rises(runs)),
            },
        }
    return content


def _write(report: Report, out: Path) -> Path:
    with new_folder(out) as folder:
        _fill(report, folder)
    return out / PAGE


def _fill(report: Report, folder: Path) -> Path:
    text = json.dumps(contents(report), indent=1, allow_nan=False)
    write_atomically(folder / CONTENT, (text + "\n").encode())
    write_atomically(folder / PAGE, render(report).encode())
    return folder / PAGE
