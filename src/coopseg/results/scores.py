"""What the trainings of a row reached: cells of the table, and curves over the severity of corruptions."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from coopseg.inference.predictor import HEADS
from coopseg.results.columns import Column, Wide, measured_columns, spread_out
from coopseg.results.patients import ALL, BELOW, FAILURES, MEAN, MEASURES, mean_over
from coopseg.results.statistics import bootstrap_interval, number, spread
from coopseg.results.study import Jobs, Study, Trained, joined

SITES = ("vendor", "site")  # groups of data sets that name them
OF = ["head", "class", "group", "value"]
NOUGHT, PUBLISHED = 0.0, 1.0  # PUBLISHED is what the main evaluation measures


@dataclass(frozen=True)
class Cell:
    """What the trainings of a row reached in a column, for one head, class, and group of volumes.

    state: "value"; "n/a" if the row has no such head; "failed" if all trainings failed; "waiting" if none has
    finished yet; "not evaluated"; "incomplete" for an average some of whose data sets were not evaluated.
    mean: Dice, over the data sets of the column, each the mean over patients. interval: 95 %, over patients,
    where the group is "all". draws, seeds: the mean of each draw; and of each seed where there is one draw.
    sd_draws, sd_seeds: their standard deviations, None for one. sd_patients: None for one, and for an
    average over several cohorts. n: patients. failures: share of volumes below each Dice. nsd: None if no
    spacing is known. hd95, assd: mm, over what could be measured. distance_missing: the share that could not.
    jobs: None if there is no head.
    """

    budget: str
    row: str
    head: str
    column: str
    class_: str
    group: str
    value: str
    state: str
    jobs: Jobs | None = None
    mean: float | None = None
    interval: tuple[float, float] | None = None
    sd_draws: float | None = None
    sd_seeds: float | None = None
    sd_patients: float | None = None
    n: int | None = None
    draws: Mapping[str, float] = field(default_factory=dict)
    seeds: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, float | None] = field(default_factory=dict)
    nsd: float | None = None
    hd95: float | None = None
    assd: float | None = None
    distance_missing: float | None = None

    @property
    def has_value(self) -> bool:
        """Tells whether anything was scored."""
        return self.state == "value"

    @property
    def spread(self) -> float | None:
        """Returns the standard deviation over draws, of one draw that over seeds; None for one training."""
        return self.sd_seeds if self.sd_draws is None else self.sd_draws

    @property
    def trainings(self) -> tuple[float, ...]:
        """Returns the mean Dice of each draw, of one draw that of each seed."""
        return tuple((self.draws if len(self.draws) > 1 else self.seeds or self.draws).values())

    def measure(self, name: str) -> float | None:
        """Returns "dice", "nsd", "hd95" or "assd"."""
        return {"dice": self.mean, "nsd": self.nsd, "hd95": self.hd95, "assd": self.assd}[name]


def find_cells(study: Study, columns: Sequence[Column], budget: str) -> Iterator[Cell]:
    """Yields every cell of a budget; class "mean" and group "all" of a column have one in any case."""
    for row in study.rows:
        if budget not in row.jobs:
            continue
        scores, jobs = study.scores(row.name, budget), row.jobs[budget]
        by_seed = joined(study.of(row.name, budget)) if one_draw(scores) else None
        for head in HEADS:
            name = (budget, row.name, head)
            has_scores = len(scores) > 0 and (scores["head"] == head).any()
            state = jobs.state if head in row.heads else "n/a"
            if not has_scores:
                given = jobs if head in row.heads else None
                yield from (Cell(*name, c.name, MEAN, ALL, "", state, given) for c in columns)
            else:
                own = scores[scores["head"] == head]
                seeds = None if by_seed is None else by_seed[by_seed["head"] == head]
                yield from _values(name, own, seeds, columns, jobs)


def _values(
    name: tuple[str, str, str],
    scores: pd.DataFrame,
    by_seed: pd.DataFrame | None,
    columns: Sequence[Column],
    jobs: Jobs,
) -> Iterator[Cell]:
    """scores: of one row and head. by_seed: likewise, where there is one draw."""
    patients, draws = mean_over(scores, "draw"), mean_over(scores, "patient")
    means = dict(list(mean_over(patients, "patient").groupby(OF, sort=False)))
    by_draw = dict(list(draws.groupby(OF, sort=False)))
    seeds = {} if by_seed is None else dict(list(mean_over(by_seed, "patient").groupby(OF, sort=False)))
    for key, own in patients.groupby(OF, sort=False):
        _, class_, group, value = map(str, key)
        at = (class_, group, value)
        drawn = spread_out(by_draw[key], "draw")
        seeded = spread_out(seeds[key], "seed") if seeds else None
        measured = {line["dataset"]: line for line in means[key].to_dict("records")}
        for column, parts in measured_columns(spread_out(own, "patient"), columns):
            if column.average and group in SITES:
                continue
            interval = bootstrap_interval(parts) if group == ALL else None
            lines = [measured[dataset] for dataset in column.datasets]
            trained = _by_training(drawn, column), {} if seeded is None else _by_training(seeded, column)
            yield Cell(
                *name, column.name, *at, "value", jobs, interval=interval, **_value(parts, lines, trained)
            )
        if at == (MEAN, ALL, ""):
            for column in columns:
                known = measured.keys() & set(column.datasets)
                if known != set(column.datasets):
                    state = "incomplete" if known else "not evaluated"
                    yield Cell(*name, column.name, *at, state, jobs)


def one_draw(scores: pd.DataFrame) -> bool:
    """Tells whether all scores are of one draw of training patients."""
    return len(scores) > 0 and scores["draw"].nunique() == 1


def _by_training(wide: Wide, column: Column) -> dict[str, float]:
    means = wide.of(column.datasets).mean(axis=1)
    return {str(name): float(mean) for name, mean in zip(wide.rows, means, strict=True) if np.isfinite(mean)}


def _value(
    parts: Sequence[np.ndarray],
    measured: Sequence[dict[Hashable, Any]],
    trained: tuple[dict[str, float], dict[str, float]],
) -> dict[str, Any]:
    """The numbers of a Cell. parts: see `cohorts`. measured: the means over patients of each data set."""
    draws, seeds = trained
    over = {key: number(fmean(entry[key] for entry in measured)) for key in MEASURES}
    own = parts[0].mean(axis=1)  # of a patient, over the data sets of an average
    return {
        "mean": over["dice"],
        "sd_draws": spread([*draws.values()]),
        "sd_seeds": spread([*seeds.values()]) if seeds else None,
        "sd_patients": spread(own[np.isfinite(own)]) if len(parts) == 1 else None,
        "n": sum(map(len, parts)),
        "draws": draws,
        "seeds": seeds,
        "failures": {str(limit): over[name] for limit, name in zip(FAILURES, BELOW, strict=True)},
        **{key: over[key] for key in ("nsd", "hd95", "assd", "distance_missing")},
    }


@dataclass(frozen=True)
class Point:
    """A point of a curve; interval (95 %) and n, the patients, of what is measured on patients."""

    x: float
    mean: float
    interval: tuple[float, float] | None = None
    n: int | None = None


@dataclass(frozen=True)
class Curve:
    """A curve of a row. kind: what is shown, such as a corruption or a term of the loss.

    run: which training of the row it is, "" for the mean over them. dashed: whether it is of the hard pass.
    marked: an x to be marked, such as the best step. draws: those that it is over. measured_nought: whether
    severity 0 was measured on copies without artefact.
    """

    row: str
    kind: str
    head: str
    points: tuple[Point, ...]
    run: str = ""
    dashed: bool = False
    marked: float | None = None
    draws: tuple[str, ...] = ()
    measured_nought: bool = False


def severity_curves(study: Study, *, clean: str) -> Iterator[Curve]:
    """Yields a curve a row, kind of corruption and head: mean Dice over patients at each severity.

    Severity 1 is the main evaluation. Severity 0 is what was measured on copies without artefact where it was
    asked for, else the data set `clean`, whose scans are neither cropped nor rescaled. All points of a curve
    are over the same trainings: severities that only some of a row's trainings have are left out.
    """
    for row in study.rows:
        trained = [one for one in study.of(row.name) if one.severities]
        if trained and (shared := set.intersection(*(set(one.severities) for one in trained))):
            yield from _curves(row.name, trained, sorted(shared), clean)


def _curves(row: str, trained: list[Trained], shared: list[float], clean: str) -> Iterator[Curve]:
    parts = [
        frame.assign(draw=one.draw, seed=one.seed)
        for one in trained
        for frame in _frames(one, {level: one.severities[level] for level in shared}, clean)
    ]
    draws, measured = tuple(sorted({one.draw for one in trained})), NOUGHT in shared
    for (kind, head), own in _patients(pd.concat(parts)).groupby(["dataset", "head"], sort=True):
        points = tuple(_point(severity, at) for severity, at in own.groupby("severity", sort=True))
        yield Curve(row, str(kind), str(head), points, draws=draws, measured_nought=measured)


def _frames(one: Trained, severities: Mapping[float, pd.DataFrame], clean: str) -> Iterator[pd.DataFrame]:
    """Scores of a training at each severity, each with the kind of corruption as its data set."""
    measured = [scores.assign(severity=level) for level, scores in severities.items()]
    kinds = sorted(set(measured[0]["dataset"]))
    yield from measured
    yield one.scores[one.scores["dataset"].isin(kinds)].assign(severity=PUBLISHED)
    if NOUGHT not in severities:
        for kind in kinds:
            own = one.scores["dataset"] == clean
            yield one.scores[own].assign(dataset=kind, severity=NOUGHT)


def _patients(scores: pd.DataFrame) -> pd.DataFrame:
    """A line a patient, kind, head and severity."""
    chosen = scores[(scores["group"] == ALL) & (scores["class"] == MEAN)]
    return mean_over(mean_over(chosen, "seed"), "draw")


def _point(severity: Any, at: pd.DataFrame) -> Point:
    values = at[["dice"]].to_numpy(float)
    return Point(float(severity), float(values.mean()), bootstrap_interval([values]), len(at))
