"""The sections of the page: what is known of runs or of a benchmark, in order, each with its caption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from coopseg.benchmark.collect import Collected
from coopseg.report.answer import Answer, comparison_table
from coopseg.report.cases import Volume, case_blocks, extreme_blocks
from coopseg.report.page import (
    Block,
    Code,
    Fold,
    Grid,
    Hard,
    Note,
    Section,
    Slices,
    fill,
    plate,
    section,
)
from coopseg.report.pictures import HardExamples, Slice
from coopseg.report.provenance import of_benchmark, of_runs, pooled_settings
from coopseg.report.sources import Run
from coopseg.report.training import rise_blocks, training_blocks
from coopseg.results.columns import same_patients
from coopseg.results.figures import draw_figures
from coopseg.results.files import (
    CHANGE_NOTE,
    COST_NOTE,
    DIFFERENCE_NOTE,
    FAILURE_NOTE,
    distance_tables,
    more_tables,
)
from coopseg.results.statistics import FEWEST
from coopseg.results.study import TIME, Study
from coopseg.results.table import Results
from coopseg.results.tables import (
    change_table,
    copies_note,
    cost_table,
    difference_table,
    few_note,
    nothing_compared,
    nought_text,
    over_patients,
    score_table,
    spikes_note,
)

EVALUATE = "coopseg evaluate --model RUN --data DATA --data CORRUPTED --split RUN --out RUN/evaluation"
LOG_SHOWN = 5  # failed jobs whose log is open


@dataclass(frozen=True)
class Report:
    """All that a page shows. runs: of a report on runs. collected: of a report on a benchmark.

    classes: the colour of each. summary: question, verdict and the table of Dice, for a terminal.
    """

    kind: str
    created: str
    coopseg: str
    question: str
    answer: Answer
    summary: str
    results: Results
    classes: Mapping[str, str]
    slices: tuple[Slice, ...]
    study: Study
    runs: tuple[Run, ...] = ()
    collected: Collected | None = None
    volumes: Mapping[str, Sequence[Volume]] = field(default_factory=dict)
    hard_examples: tuple[HardExamples, ...] = ()


def render(report: Report) -> str:
    """Returns the page on a report."""
    results = report.results
    about = f"{len(results.rows)} methods" if len(results.rows) > 1 else "one method"
    if results.jobs:
        about += f" · {results.jobs.finished} of {results.jobs.all} jobs finished"
    return fill(
        report=report, about=about, opening=tuple(_opening(report)), sections=tuple(_sections(report))
    )


def _opening(report: Report) -> Iterator[Block]:
    if report.answer.comparisons:
        yield Grid(comparison_table(report.results, report.answer.comparisons))
    if report.results.jobs and (failed := report.results.jobs.failed):
        yield Note(
            f"{len(failed)} of {report.results.jobs.all} jobs failed; what they said is below.", "note"
        )
    for name, keys in pooled_settings(report.runs).items():
        yield Note(
            f"The runs pooled as {name} differ in more than the seed: {', '.join(keys)}. Give them names of "
            "their own (NAME=RUN) unless this is meant.",
            "note",
        )
    for column in report.results.columns if report.runs else ():
        if not same_patients(report.study.trained, column):
            yield Note(
                f"{column.name}: not every run was evaluated on the same patients; its scores do not "
                "compare.",
                "note",
            )


def _sections(report: Report) -> Iterator[Section]:
    results = report.results
    figures = draw_figures(results)
    yield section("scores", "Scores", "Dice", _scores(report, figures))
    yield section("differences", "Differences", "Difference to the baseline", _differences(results))
    if len({line.row for line in results.change}) > 1:
        title = "What robustness costs on clean scans of the own site"
        yield section("change", "Change", title, _change(results, figures))
    if results.cost:
        yield section("cost", "Cost", "Cost", _cost(results, figures))
    if TIME in results.budgets:
        yield section("time", "Equal time", "At equal wall-clock time", _timed(results))
    if results.severity:
        note = (
            f"Dice as the corruption grows, by factors on the published severity: {nought_text(results)}; 1 "
            "is the corrupted sets of the table. Factors are evenly spaced, whatever lies between them."
        )
        alt = "Dice against severity, a panel a corruption and head, a line a method"
        shown = plate(figures["severity"], alt)
        yield section("severity", "Severity", "Severity", (Note(note), shown))
    yield section("slices", "Slices", "One slice under every corruption", _slices(report),
                  "There are no stored slices: nothing was evaluated, or with --no-pictures.")  # fmt: skip
    yield section("more", "Classes, phases, sites", "Classes, phases, sites, distances", _more(results),
                  "Nothing has been evaluated.")  # fmt: skip
    if report.runs:
        yield from _of_runs(report)
    if results.jobs:
        yield section("jobs", "Failed jobs", "Failed and waiting jobs", _jobs(results), "No job failed.")
    blocks = of_benchmark(results, report.collected) if report.collected else of_runs(report.runs)
    yield section("provenance", "Settings, versions", "Settings, time, versions", blocks)


def _of_runs(report: Report) -> Iterator[Section]:
    results = report.results
    yield section(
        "cases",
        "Every case",
        "Every case",
        case_blocks(results, report.volumes),
        "No case has been evaluated.",
    )
    yield section("training", "Training", "Training", training_blocks(results, report.runs),
                  "The runs hold no log.jsonl, so there are no curves.")  # fmt: skip
    yield section("hard", "Hard examples", "Hard examples", _hard(report),
                  "None are stored: the methods mask no code, or were trained by a version that keeps no "
                  "examples.")  # fmt: skip
    yield section("rises", "Mask schemes", "How much each mask scheme raised the loss",
                  rise_blocks(results, report.runs),
                  "No method masks a code, so nothing was raised.")  # fmt: skip
    yield section("extremes", "Worst and slowest", "Worst and slowest cases",
                  extreme_blocks(results, report.volumes),
                  "Nothing has been evaluated.")  # fmt: skip


def _scores(report: Report, figures: Mapping[str, Figure]) -> Iterator[Block]:
    results = report.results
    if not results.columns:
        if report.collected:
            yield Note("No job has finished yet. This goes on:", "plain")
            yield Code(f"coopseg benchmark --resume {report.collected.folder}")
        else:
            yield Note("Nothing has been evaluated. This makes what is missing here:", "plain")
            yield Code(EVALUATE)
        return
    over = "patients" if over_patients(results) else "draws of training patients, of one draw over seeds"
    notes = "".join(f" {row.title}: {row.note}." for row in results.rows if row.note)
    yield Note(
        "Mean over patients (0 to 1, more is better), in each scan's own grid; copies, phases, seeds and "
        f"draws of a patient are averaged first. ± is the standard deviation over {over}. Bold on green: "
        f"best of its column among methods with the same draws, of {FEWEST} patients or more. FTN: the fast "
        f"network alone; FTN+STN: its result corrected by the slow network. n/a: a head that the method does "
        f"not have.{notes}"
    )
    yield Grid(score_table(results), wide=True)
    patients = [
        f"{column.name} {column.patients} ({column.volumes} volumes)"
        for column in results.columns
        if not column.average
    ]
    yield Note(
        f"Patients: {', '.join(patients)}. An average counts each of its columns the same; “out of domain” "
        f"is over corrupted sets and other sites. {few_note(results)} {copies_note(results)} "
        f"{spikes_note(results)}"
    )
    if figure := figures.get("dice"):
        alt = "Dice of every method in every column, a dot a training"
        yield plate(figure, alt, "Dice by column, a dot a training, a bar at their mean")
    failures = score_table(results, measure="failures", filled=True)
    yield Grid(failures.called("Failures", f"{FAILURE_NOTE} A mean hides them."), wide=True)


def _differences(results: Results) -> Iterator[Block]:
    if not results.compared:
        yield Note(nothing_compared(results), "plain")
        return
    yield Note(f"Method minus baseline by the same head, {DIFFERENCE_NOTE} Green is clearly above and red "
               "clearly below zero.")  # fmt: skip
    yield from _compared(results, "steps")


def _compared(results: Results, budget: str) -> Iterator[Block]:
    for against in results.compared:
        for head in reversed(results.heads):
            table = difference_table(results, against, budget=budget, head=head)
            if table.lines:
                yield Grid(table.called(f"Against {results.title(against)}, {head}"), wide=True)


def _change(results: Results, figures: Mapping[str, Figure]) -> Iterator[Block]:
    good = "Good methods lie in the upper right of the figure: more out of domain, nothing lost at home."
    yield Note(f"{CHANGE_NOTE} {good} {spikes_note(results)}")
    if figure := figures.get("change"):
        yield plate(figure, "change on clean own-site scans against change out of domain, a point a method")
    for against in results.compared:
        if (table := change_table(results, against)).lines:
            yield Grid(table.called(f"Against {results.title(against)}"), wide=True)


def _cost(results: Results, figures: Mapping[str, Figure]) -> Iterator[Block]:
    yield Note(COST_NOTE)
    yield Grid(cost_table(results), wide=True)
    if figure := figures.get("cost"):
        alt = "average Dice against seconds a training step, a point a method"
        title = "Average Dice against seconds a training step; bars are 95 % intervals over patients"
        yield plate(figure, alt, title)
    devices = {
        f"{entry.device}, {entry.threads} threads, precision {entry.precision}"
        for entry in results.cost
        if entry.device
    }
    if devices:
        yield Note(f"Steps were timed on {'; '.join(sorted(devices))}.")


def _timed(results: Results) -> Iterator[Block]:
    yield Note(
        f"Each method trained with as many steps as take as long as those of {results.timekeeper}, by the "
        f"steps that were timed; {results.timekeeper} itself is as above."
    )
    yield Grid(score_table(results, budget=TIME), wide=True)
    yield from _compared(results, TIME)


def _slices(report: Report) -> Iterator[Block]:
    if report.slices:
        yield Note(
            "The slice with the most true foreground of one volume a data set, chosen before anything was "
            "predicted; corrupted copies show the same slice of the same volume. Each method by its last "
            "head and first training: prediction in the colour of its class, truth dashed white. Dice is "
            "that of the whole volume."
        )
        yield Slices(report.slices)


def _more(results: Results) -> Iterator[Block]:
    for table in (*more_tables(results), *distance_tables(results)):
        yield Fold(table.title, (Grid(table.called("", table.caption), wide=True),))


def _hard(report: Report) -> Iterator[Block]:
    if report.hard_examples:
        yield Note(
            "What the networks make for themselves to learn from, on the same training slices with the "
            "same masks at three moments of the training: x̂ is decoded from a masked image code, p̂ from "
            "a masked shape code; half of the greatest share of the code is masked. Good hard examples "
            "stay anatomical while they differ from the clean column at left. Segmentations are in the "
            "colours of the classes above, on black."
        )
        yield from map(Hard, report.hard_examples)


def _jobs(results: Results) -> Iterator[Block]:
    jobs = results.jobs
    for place, job in enumerate(jobs.failed if jobs else ()):
        said: list[Block] = [Note(f"{job.error} {job.when}", "plain")]
        said += [Code(job.log)] if job.log else []
        yield Fold(f"{job.id}: {job.kind}", tuple(said), open=place < LOG_SHOWN)
    for entry in results.cost:
        if entry.error:
            yield Note(f"The steps of {results.title(entry.row)} could not be timed: {entry.error}", "plain")
    if jobs and jobs.waiting:
        yield Note(f"Waiting: {', '.join(job.id for job in jobs.waiting)}.", "plain")
