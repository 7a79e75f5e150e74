"""What is compared: rows of a table, the trainings of each, and the patients that these were tested on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from coopseg.results.patients import ALL, mean_over

STEPS, TIME = "steps", "time"  # what the rows of a table have had in equal measure
WHOLE = "-"  # the draw where there is only one division of the patients
TRAINED = ["draw", "seed"]


@dataclass(frozen=True)
class DataSet:
    """A data set of which a training was tested. domain: "intra", "corrupted" or "other"."""

    name: str
    domain: str
    patients: tuple[str, ...]
    volumes: int


@dataclass(frozen=True, eq=False)
class Trained:
    """A training that was tested, or a predictor that was trained elsewhere.

    draw: the name of its division of patients. seed: a number, or a text that tells trainings of one seed
    apart. scores: see `per_patient`. budgets: in which comparisons it takes part. severities: scores on
    the corruptions of other severities.
    """

    row: str
    draw: str
    seed: int | str
    scores: pd.DataFrame
    data: tuple[DataSet, ...]
    budgets: tuple[str, ...] = (STEPS,)
    predictor: bool = False
    severities: Mapping[float, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Jobs:
    """How many trainings of a row have finished or failed, of how many."""

    finished: int
    failed: int
    all: int

    @property
    def state(self) -> str:
        """Says why a head has no score."""
        if self.finished or not self.all:
            return "not evaluated"
        return "failed" if self.failed == self.all else "waiting"


@dataclass(frozen=True)
class Row:
    """A row of the table. heads: those that it has. draws, seeds: of the trainings that were tested.

    jobs: by budget; a budget without the row is left out.
    """

    name: str
    title: str
    heads: tuple[str, ...]
    jobs: Mapping[str, Jobs]
    description: str = ""
    note: str = ""
    predictor: bool = False
    draws: tuple[str, ...] = ()
    seeds: tuple[int | str, ...] = ()


@dataclass(frozen=True, eq=False)
class Study:
    """Rows and all their trainings. baselines: the rows that others are held against, the first above all.

    pooled: whether a row none of whose trainings has a partner in the baseline, of the same draw and seed, is
    held against all trainings of the baseline together; else it is not compared.
    """

    rows: tuple[Row, ...]
    trained: tuple[Trained, ...]
    baselines: tuple[str, ...]
    pooled: bool = False

    def of(self, row: str, budget: str = STEPS) -> list[Trained]:
        """Returns the trainings of a row that take part under a budget."""
        return [one for one in self.trained if one.row == row and budget in one.budgets]

    def scores(self, row: str, budget: str = STEPS) -> pd.DataFrame:
        """Returns a line a draw, data set, head, class, group and patient; seeds are averaged."""
        frame = joined(self.of(row, budget))
        return mean_over(frame, "seed") if len(frame) else frame

    def pairs(self, row: str, against: str, budget: str) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """Yields scores of a row and of a baseline, training by training, for what both were trained on.

        With several draws a training is a draw, whose seeds are averaged; with one it is a seed. A predictor
        has no draw: it is held against every training of the baseline. See also `pooled`.
        """
        ours, theirs = (_whole(self.of(name, budget)) for name in (row, against))
        if not len(ours) or not len(theirs):
            return
        predictor = self.of(row, budget)[0].predictor
        if not predictor:
            both = ours[TRAINED].drop_duplicates().merge(theirs[TRAINED].drop_duplicates())
            if self.pooled and not len(both):
                yield _over_all(ours), _over_all(theirs)
                return
            ours, theirs = ours.merge(both), theirs.merge(both)
        unit, averaged = TRAINED if theirs["draw"].nunique() > 1 else TRAINED[::-1]
        theirs = mean_over(theirs, averaged)
        ours = _over_all(ours) if predictor else mean_over(ours, averaged)
        for name, baseline in theirs.groupby(unit, sort=True):
            own = ours if predictor else ours[ours[unit] == name].drop(columns=unit)
            yield own, baseline.drop(columns=unit)

    def shared_draws(self, row: str, against: str, budget: str) -> tuple[str, ...]:
        """Returns the draws on which both were trained; for a predictor those of the baseline."""
        ours, theirs = self.of(row, budget), self.of(against, budget)
        trained = {(one.draw, one.seed) for one in theirs}
        own = trained & {(one.draw, one.seed) for one in ours if not one.predictor}
        alone = not own and (self.pooled or any(one.predictor for one in ours))
        return tuple(sorted({draw for draw, _ in (trained if alone else own)}))


def joined(trained: Sequence[Trained]) -> pd.DataFrame:
    """Returns the scores of several trainings with columns draw and seed; empty where there is none."""
    parts = [one.scores.assign(draw=one.draw, seed=one.seed) for one in trained]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _whole(trained: Sequence[Trained]) -> pd.DataFrame:
    """Scores over all volumes of a data set, not by phase or site."""
    frame = joined(trained)
    return frame[frame["group"] == ALL].drop(columns=["group", "value"]) if len(frame) else frame


def _over_all(scores: pd.DataFrame) -> pd.DataFrame:
    return mean_over(mean_over(scores, "seed"), "draw")
