"""From rows to summaries: means over patients, failure shares, missing distances; CSV, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import COLUMNS, Row
from coopseg.evaluation.metrics import TOLERANCE
from coopseg.results.patients import ALL, FAILURES, MEAN, MEASURES, VOLUMES, per_patient
from coopseg.results.shown import (
    Heading,
    Line,
    Shown,
    Table,
    as_csv,
    as_markdown,
    harmless,
    number_text,
    one_line,
    percent,
)
from coopseg.results.statistics import number
from coopseg.scans.files import write_atomically
from coopseg.text import Json

METRICS = "metrics.json"
KEYS = ["group", "value", "dataset", "head", "class"]
SPREAD = ("dice", "nsd", "hd95", "assd")  # measures with a standard deviation
TITLES = {ALL: "All volumes", "phase": "By phase", "vendor": "By vendor", "site": "By site"}
NOTE = (
    "Dice, NSD and distances: mean ± standard deviation over patients, volumes of a patient averaged first. "
    "NSD: the share of both surfaces that lies within {tolerance:g} mm of the other. "
    "HD95 and ASSD in mm over what could be measured; missing: the share in which one of prediction and "
    "truth is empty, and in brackets how many structures that are."
)

Means = dict[str, float | None]  # by measure; None where nothing could be measured


@dataclass(frozen=True)
class Summary:
    """Holds the means over the patients of a group of volumes, for one head and class.

    group, value: such as "phase" and "ES". means: of all MEASURES. sds: standard deviations of SPREAD.
    missing: number of structures without a distance.
    """

    group: str
    value: str
    dataset: str
    head: str
    name: str  # of the class
    patients: int
    volumes: int
    means: Means
    sds: Means
    missing: int

    @property
    def line(self) -> tuple[str, str, str, str]:
        """Returns what names a line of a table."""
        return self.group, self.value, self.dataset, self.head

    def as_json(self) -> Json:
        """Returns the entry of metrics.json."""
        keys = dict(zip(KEYS, (*self.line, self.name), strict=True))
        counts = {"patients": self.patients, "volumes": self.volumes, "missing": self.missing}
        shares = {name: self.means[name] for name in MEASURES if name not in SPREAD}
        kinds = (("mean", self.means), ("sd", self.sds))
        return keys | counts | shares | {f"{name}_{kind}": of[name] for name in SPREAD for kind, of in kinds}


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Returns summaries of the rows of `evaluate`, one for each group, value, data set, head and class.

    Groups are "all" volumes, then each "phase", "vendor" and "site" where the rows name one; a site is
    "vendor/centre". Class "mean" is the mean over the foreground classes of each volume. Copies and phases
    of a patient are averaged first, so that n is the number of patients, and every mean and standard
    deviation (n − 1; None for one patient) is over patients.

    dice_below_0.5, dice_below_0.1, distance_missing: shares of a patient's volumes, averaged over patients.
    hd95 and assd are over the volumes in which they could be measured; distance_missing is the share in which
    prediction or truth was empty but not both, so that a good mean with many missing can be seen for what it
    is; `missing` is their number. Both empty is not counted. nsd counts empty structures as Dice does.
    Raises CoopsegError where there are no rows.
    """
    if not rows:
        raise CoopsegError("there is nothing to summarise: no volume was evaluated")
    scores = per_patient(pd.DataFrame(rows, columns=list(COLUMNS)))
    scores["missing"] = (scores["distance_missing"] * scores[VOLUMES]).where(scores["class"] != MEAN, 0)
    of_line = scores.groupby(KEYS[:-1])["missing"].sum().to_dict()
    groups = scores.groupby(KEYS, sort=False)
    means = groups[list(MEASURES)].mean().to_dict("records")
    sds = groups[list(SPREAD)].std(ddof=1).to_dict("records")
    counts = groups.agg(patients=("patient", "size"), volumes=(VOLUMES, "sum"), missing=("missing", "sum"))
    return [
        Summary(
            str(group),
            str(value),
            str(dataset),
            str(head),
            str(name),
            patients=int(patients),
            volumes=int(volumes),
            means={str(name): number(value) for name, value in mean.items()},
            sds={str(name): number(value) for name, value in sd.items()},
            missing=round(of_line[group, value, dataset, head] if name == MEAN else missing),
        )
        for ((group, value, dataset, head, name), patients, volumes, missing), mean, sd in zip(
            counts.itertuples(name=None), means, sds, strict=True
        )
    ]


def compare_heads(summaries: Sequence[Summary]) -> str:
    """Says that FTN+STN has a lower mean Dice than the FTN on every data set, if so; returns "" elsewhere."""
    whole = [each for each in summaries if each.group == ALL and each.name == MEAN]
    dice = {(each.dataset, each.head): each.means["dice"] for each in whole}
    datasets = list(dict.fromkeys(each.dataset for each in whole))
    pairs = [(dice.get((name, "FTN")), dice.get((name, "FTN+STN"))) for name in datasets]
    if not all(ftn is not None and both is not None and both < ftn for ftn, both in pairs):
        return ""
    where = "every data set" if len(pairs) > 1 else datasets[0]
    return f"FTN+STN has a lower Dice than the FTN on {where}; --refine 0 gives the FTN's label maps"


def summary_table(summaries: Sequence[Summary], group: str = ALL) -> Table:
    """Returns Dice, that of each class, failures and distances, a line a data set, value and head."""
    chosen = [summary for summary in summaries if summary.group == group]
    classes = list(dict.fromkeys(summary.name for summary in chosen if summary.name != MEAN))
    by_line: dict[tuple[str, str, str, str], dict[str, Summary]] = {}
    for summary in chosen:
        by_line.setdefault(summary.line, {})[summary.name] = summary
    lines = tuple(
        Line(
            (dataset, value, head, str(own[MEAN].patients)),
            (
                _spread(own[MEAN], "dice", 3),
                *(_spread(own[name], "dice", 3) if name in own else Shown("–") for name in classes),
                *(Shown(percent(own[MEAN].means[f"dice_below_{limit}"])) for limit in FAILURES),
                _spread(own[MEAN], "nsd", 3),
                _spread(own[MEAN], "hd95", 1),
                _spread(own[MEAN], "assd", 2),
                Shown(percent(own[MEAN].means["distance_missing"]), f"({own[MEAN].missing})"),
            ),
        )
        for (_, value, dataset, head), own in by_line.items()
    )
    titles = ("Dice", *classes, *(f"< {limit}" for limit in FAILURES), "NSD", "HD95", "ASSD", "missing")
    names = ("data set", "", "head", "patients")
    return Table(names, tuple(map(Heading, titles)), lines, TITLES[group])


def markdown(summaries: Sequence[Summary], notes: Sequence[str] = (), *, tolerance: float = TOLERANCE) -> str:
    """Returns tables for people: all volumes, then by phase, vendor and site where the rows name one.

    notes: lines to stand before the tables, such as how many volumes were left out. tolerance: of the NSD.
    """
    groups = [group for group in TITLES if any(summary.group == group for summary in summaries)]
    tables = [summary_table(summaries, group) for group in groups]
    parts = [f"## {table.title}\n\n{as_markdown(table)}" for table in tables]
    return (
        "\n\n".join([*(harmless(one_line(text)) for text in notes), *parts, NOTE.format(tolerance=tolerance)])
        + "\n"
    )


def _spread(summary: Summary, column: str, digits: int) -> Shown:
    sd = summary.sds[column]
    more = "" if sd is None else f"± {number_text(sd, digits)}"
    return Shown(number_text(summary.means[column], digits), more)


def write_tables(
    rows: Sequence[Row], out: Path, *, notes: Sequence[str] = (), tolerance: float = TOLERANCE
) -> list[Summary]:
    """Write cases.csv (all rows), metrics.json (summary and rows) and metrics.md into folder `out`.

    What could not be measured is an empty field in the CSV and null in the JSON. notes, tolerance: see
    `markdown`.
    Returns the summaries.
    """
    summaries = summarise(rows)
    plain = [{key: _plain(value) for key, value in row.items()} for row in rows]
    metrics = {"summary": [summary.as_json() for summary in summaries], "rows": plain}
    contents = {
        "cases.csv": as_csv(rows, COLUMNS),
        METRICS: json.dumps(metrics, indent=1, allow_nan=False) + "\n",
        "metrics.md": markdown(summaries, notes, tolerance=tolerance),
    }
    for name, content in contents.items():
        write_atomically(out / name, content.encode())
    return summaries


def _plain(value: Any) -> Any:
    return number(value) if isinstance(value, float) else value
