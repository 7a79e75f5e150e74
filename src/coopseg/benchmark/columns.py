"""The columns of the table: data sets by domain, then averages over several; and who their patients are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coopseg.benchmark.collected import Collected
from coopseg.results.paired import Wide, present

DOMAINS = ("intra", "corrupted", "other")
# An average is over the columns of these domains, each column counting the same.
AVERAGES = {
    "average corrupted": ("corrupted",),
    "average other sites": ("other",),
    "average out of domain": ("corrupted", "other"),
    "average of all": DOMAINS,
}
# A spike of one to three times the maximum of k-space leaves nothing of a scan to see. Columns are few, so
# that this one can decide an average; one without it stands beside the average of all.
SPIKES, WITHOUT_SPIKES = "RandSpike", "average without spikes"

Column = dict[str, Any]


def find_columns(collected: Collected) -> list[Column]:
    """Returns the data sets in the order intra, corrupted, other, then their averages.

    An average is over two columns or more and not the same as one before it; the last is over all but
    RandSpike where that is among them.
    A predictor's record cannot know which data set is its own, so domains are taken from a job that was
    trained here; without one the first data set is intra. Patients are those of the first record.
    """
    found: dict[str, Column] = {}
    for job in sorted(collected.finished, key=lambda job: job.is_predictor):
        for place, entry in enumerate(job.evaluation["data"]):
            own = job.is_predictor and place == 0
            column = _column(entry["name"], "intra" if own else entry["domain"], [entry["name"]])
            column |= {"patients": len(entry["patients"]), "volumes": entry["volumes"]}
            found.setdefault(entry["name"], column)
    columns = sorted(found.values(), key=lambda column: DOMAINS.index(column["domain"]))
    return columns + _averages(columns)


def _averages(columns: Sequence[Column]) -> list[Column]:
    wanted = {
        name: [column["name"] for column in columns if column["domain"] in domains]
        for name, domains in AVERAGES.items()
    }
    names = [column["name"] for column in columns]
    if SPIKES in names:
        wanted[WITHOUT_SPIKES] = [name for name in names if name != SPIKES]
    averages: list[Column] = []
    for name, datasets in wanted.items():
        if len(datasets) > 1 and datasets not in [average["datasets"] for average in averages]:
            averages.append(_column(name, "average", datasets))
    return averages


def _column(name: str, domain: str, datasets: list[str]) -> Column:
    return {"name": name, "domain": domain, "average": domain == "average", "datasets": datasets}


def column_of(columns: Sequence[Column], domains: tuple[str, ...]) -> str | None:
    """The name of the column over all data sets of these domains; None where there is no such data set."""
    datasets = [c["name"] for c in columns if c["domain"] in domains]
    return next((column["name"] for column in columns if column["datasets"] == datasets), None)


def cohorts(wide: Wide, column: Column, columns: Sequence[Column]) -> list[np.ndarray]:
    """The values of a column by cohort, each (..., patients, data sets), NaN where a patient is not in one.

    wide: by patients. A patient of the corrupted copies is the one of the clean set: these are one cohort.
    Every other data set is one of its own, whatever names its patients bear.
    """
    domains = {entry["name"]: entry["domain"] for entry in columns}
    own = [name for name in column["datasets"] if domains[name] != "other"]
    parts = [own, *([name] for name in column["datasets"] if domains[name] == "other")]
    found = [wide.of(part) for part in parts if part]
    return [values[..., present(values), :] for values in found]
