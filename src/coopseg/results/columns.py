"""The columns of a table: data sets by domain, then averages over several; and who their patients are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd

from coopseg.results.study import DataSet, Trained

# Copies in the scan's grid are for predictors; nothing is averaged over them and published ones.
NO_ARTEFACT, IN_SCAN_GRID = "no artefact (scan grid)", " (scan grid)"
MAIN = ("intra", "corrupted", "other")
DOMAINS = (*MAIN, "no artefact", "scan grid")
# An average is over the columns of these domains, each column counting the same.
AVERAGES = {
    "average corrupted": ("corrupted",),
    "average other sites": ("other",),
    "average out of domain": ("corrupted", "other"),
    "average of all": MAIN,
    f"average corrupted{IN_SCAN_GRID}": ("scan grid",),
}
# A spike of one to three times the maximum of k-space is far stronger than any scanner's. Columns are few, so
# that this one can decide an average; one without it stands beside the average of all.
SPIKES, WITHOUT_SPIKES = "RandSpike", "average without spikes"


@dataclass(frozen=True)
class Column:
    """A data set, or an average over `datasets`. patients, volumes: None for an average."""

    name: str
    domain: str
    datasets: tuple[str, ...]
    patients: int | None = None
    volumes: int | None = None

    @property
    def average(self) -> bool:
        """Whether it is over several data sets."""
        return self.domain == "average"


def find_columns(trained: Sequence[Trained]) -> list[Column]:
    """Returns the data sets in the order intra, corrupted, other; then each average that is over two or more.

    Copies in the scan's grid come after the other sites. An average that is the same as one before it is left
    out; the last is over all but RandSpike where that is among them, and not over copies in the scan's grid.
    A predictor cannot know which data set is its own, so domains are taken from what was trained here;
    without any the first data set is intra. Patients are those of the first training.
    """
    found: dict[str, Column] = {}
    for one in sorted(trained, key=lambda one: one.predictor):
        for place, entry in enumerate(one.data):
            domain = "intra" if one.predictor and place == 0 else domain_of(entry.name, entry.domain)
            column = Column(entry.name, domain, (entry.name,), len(entry.patients), entry.volumes)
            found.setdefault(entry.name, column)
    columns = sorted(found.values(), key=lambda column: DOMAINS.index(column.domain))
    return columns + _averages(columns)


def domain_of(name: str, domain: str) -> str:
    """Returns the domain of a column, given its name and its domain by evaluation.json."""
    if name == NO_ARTEFACT:
        return "no artefact"
    return "scan grid" if name.endswith(IN_SCAN_GRID) else domain


def _averages(columns: Sequence[Column]) -> list[Column]:
    wanted = {
        name: tuple(column.name for column in columns if column.domain in domains)
        for name, domains in AVERAGES.items()
    }
    names = tuple(column.name for column in columns if column.domain in MAIN)
    if SPIKES in names:
        wanted[WITHOUT_SPIKES] = tuple(name for name in names if name != SPIKES)
    averages: dict[tuple[str, ...], Column] = {}
    for name, datasets in wanted.items():
        if len(datasets) > 1:
            averages.setdefault(datasets, Column(name, "average", datasets))
    return list(averages.values())


def column_of(columns: Sequence[Column], domains: Sequence[str]) -> str | None:
    """Returns the name of the column over all data sets of these domains; None where there is none."""
    datasets = tuple(column.name for column in columns if column.domain in domains)
    return next((column.name for column in columns if column.datasets == datasets), None)


def same_patients(trained: Sequence[Trained], column: Column) -> bool:
    """Tells whether all trainings that were tested on a data set were tested on the same patients of it."""
    found: Iterable[DataSet] = (entry for one in trained for entry in one.data if entry.name == column.name)
    return len({frozenset(entry.patients) for entry in found}) <= 1


@dataclass(frozen=True)
class Wide:
    """Scores by row (patients or draws) and data set, NaN where there is none.

    values: (rows, data sets), or (trainings, rows, data sets).
    """

    rows: np.ndarray
    datasets: np.ndarray
    values: np.ndarray

    def of(self, datasets: Sequence[str]) -> np.ndarray:
        """Returns the values of these data sets, in their order."""
        return self.values[..., [self.datasets.tolist().index(name) for name in datasets]]

    def has(self, column: Column) -> bool:
        """Tells whether all data sets of a column are there."""
        return set(column.datasets) <= set(self.datasets.tolist())


def spread_out(scores: pd.DataFrame, by: str) -> Wide:
    """Lays Dice out by patient or draw and data set; each pair has one line at most."""
    rows, at = np.unique(scores[by].to_numpy(str), return_inverse=True)
    datasets, place = np.unique(scores["dataset"].to_numpy(str), return_inverse=True)
    values = np.full((len(rows), len(datasets)), np.nan)
    values[at, place] = scores["dice"].to_numpy(float)
    return Wide(rows, datasets, values)


def minus(ours: Wide, theirs: Wide) -> Wide:
    """Returns the difference, over the rows and data sets that both have."""
    rows, a, b = np.intersect1d(ours.rows, theirs.rows, return_indices=True)
    datasets, c, d = np.intersect1d(ours.datasets, theirs.datasets, return_indices=True)
    return Wide(rows, datasets, ours.values[np.ix_(a, c)] - theirs.values[np.ix_(b, d)])


def stack(trainings: Sequence[Wide]) -> Wide:
    """Stacks several trainings: all their rows, NaN where one has none, and the data sets that all have."""
    rows = np.unique(np.concatenate([wide.rows for wide in trainings]))
    datasets = reduce(np.intersect1d, [wide.datasets for wide in trainings])
    values = np.full((len(trainings), len(rows), len(datasets)), np.nan)
    for own, wide in zip(values, trainings, strict=True):
        own[np.searchsorted(rows, wide.rows)] = wide.of(datasets.tolist())
    return Wide(rows, datasets, values)


def present(values: np.ndarray) -> np.ndarray:
    """(patients,) bool: tells which patients have any value."""
    known = np.isfinite(values).any(axis=-1)
    return known if known.ndim == 1 else known.any(axis=0)


def cohorts(wide: Wide, column: Column, columns: Sequence[Column]) -> list[np.ndarray]:
    """Returns the values of a column by cohort, each (..., patients, data sets), NaN for what is missing.

    wide: by patients. A patient of the corrupted copies is the one of the clean set: these are one cohort.
    Every other data set is one of its own, whatever names its patients bear.
    """
    domains = {entry.name: entry.domain for entry in columns}
    own = [name for name in column.datasets if domains[name] != "other"]
    parts = [own, *([name] for name in column.datasets if domains[name] == "other")]
    found = [wide.of(part) for part in parts if part]
    return [values[..., present(values), :] for values in found]


def measured_columns(wide: Wide, columns: Sequence[Column]) -> Iterator[tuple[Column, list[np.ndarray]]]:
    """Yields each column all of whose data sets are there and have a patient, with its cohorts."""
    for column in columns:
        if wide.has(column) and all(map(len, parts := cohorts(wide, column, columns))):
            yield column, parts
