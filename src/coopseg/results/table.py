"""The table of a study: every cell, difference, cost and curve as frozen values, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from coopseg import __version__
from coopseg.config.methods import title_of
from coopseg.inference.predictor import HEADS
from coopseg.results.columns import Column, find_columns
from coopseg.results.differences import Change, Difference, find_changes, find_differences
from coopseg.results.patients import MEAN
from coopseg.results.scores import Cell, Curve, find_cells, severity_curves
from coopseg.results.statistics import LEVEL, RESAMPLES, as_json
from coopseg.results.study import STEPS, TIME, Row, Study
from coopseg.text import Json

STATISTICS = {
    "unit": "patient",
    "interval": f"percentile bootstrap over patients and, where there are several, over trainings, "
    f"{LEVEL:.0%}, {RESAMPLES} resamples",
    "test": "sign-flip, two-sided, over patients",
    "correction": "Holm, over the rows compared with one baseline within one column, head and class",
}


@dataclass(frozen=True)
class Cost:
    """What a row costs: a step and its memory, timed alone, and whole trainings by budget.

    seconds_per_step, spread: median and interquartile range. times_baseline: the step over that of `against`,
    the first baseline that was timed. error: why a step could not be timed.
    """

    row: str
    against: str | None = None
    times_baseline: float | None = None
    seconds_per_step: float | None = None
    spread: float | None = None
    peak_memory_gb: float | None = None
    threads: int | None = None
    device: str | None = None
    precision: str | None = None
    machine: str | None = None
    error: str | None = None
    trainings: Mapping[str, Spent] = field(default_factory=dict)


@dataclass(frozen=True)
class Spent:
    """Means over the finished jobs of a row; seconds are those of whole jobs."""

    jobs: int
    steps: float | None
    seconds: float | None
    training_seconds: float | None
    evaluation_seconds: float | None


@dataclass(frozen=True)
class Unfinished:
    """A job that waits or has failed; error, kind, log and when say how it failed."""

    id: str
    row: str
    draw: str
    seed: int
    budget: str
    error: str = ""
    kind: str = ""
    log: str = ""
    when: str = ""


@dataclass(frozen=True)
class Ended:
    """How many jobs there are and have finished, and those that failed or wait."""

    all: int
    finished: int
    failed: tuple[Unfinished, ...] = ()
    waiting: tuple[Unfinished, ...] = ()


@dataclass(frozen=True)
class Results:
    """All that a table, a figure or a report is made of. heads, rows, columns, classes: in their order.

    timekeeper: the row whose time the others get under the budget "time"; "" without any. jobs: None for
    trainings that no benchmark has run.
    """

    baselines: tuple[str, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    budgets: tuple[str, ...]
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]
    change: tuple[Change, ...]
    severity: tuple[Curve, ...]
    heads: tuple[str, ...] = HEADS
    cost: tuple[Cost, ...] = ()
    timekeeper: str = ""
    jobs: Ended | None = None

    def title(self, row: str) -> str:
        """Returns the title of a row, for people to read."""
        return next((entry.title for entry in self.rows if entry.name == row), title_of(row))

    @property
    def compared(self) -> tuple[str, ...]:
        """Returns the baselines that anything was compared with, the first above all."""
        found = {entry.against for entry in self.differences}
        return tuple(name for name in self.baselines if name in found)

    @property
    def last_heads(self) -> dict[str, str]:
        """Returns by row the last head that has scores: it speaks for the row."""
        return {cell.row: cell.head for head in self.heads for cell in self.cells
                if cell.head == head and cell.has_value}  # fmt: skip


def tabulate(
    study: Study, *, cost: Sequence[Cost] = (), timekeeper: str = "", jobs: Ended | None = None
) -> Results:
    """Makes the table of a study. cost, timekeeper, jobs: what a benchmark knows beside its scores."""
    columns = find_columns(study.trained)
    budgets = (STEPS, TIME) if any(TIME in row.jobs for row in study.rows) else (STEPS,)
    compared = {budget: find_differences(study, columns, budget) for budget in budgets}
    classes = dict.fromkeys(name for one in study.trained for name in one.scores["class"].unique())
    clean = next((column.name for column in columns if column.domain == "intra"), "")
    return Results(
        baselines=study.baselines,
        rows=study.rows,
        columns=tuple(columns),
        classes=tuple(sorted(classes, key=lambda name: name != MEAN)),
        budgets=budgets,
        cells=tuple(cell for budget in budgets for cell in find_cells(study, columns, budget)),
        differences=tuple(entry for found in compared.values() for entry in found),
        change=tuple(find_changes(compared[STEPS], columns)),
        severity=tuple(severity_curves(study, clean=clean)),
        cost=tuple(cost),
        timekeeper=timekeeper,
        jobs=jobs,
    )


def to_json(results: Results) -> Json:
    """Returns all of it in JSON types without NaN."""
    plain = cast(Json, as_json(results))
    plain["change"] = {STEPS: plain["change"]}
    for curve in plain["severity"]:
        curve["points"] = [{"severity": point.pop("x"), **point} for point in curve["points"]]
        for name in ("run", "dashed", "marked"):
            del curve[name]
    return {"coopseg": __version__, "statistics": STATISTICS, **plain}
