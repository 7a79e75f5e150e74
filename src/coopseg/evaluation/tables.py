"""From rows to summaries: means over patients, failure shares, missing distances; CSV, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import COLUMNS, Row
from coopseg.results.patients import ALL, FAILURES, MEAN, MEASURES, VOLUMES, per_patient
from coopseg.results.shown import Heading, Line, Shown, Table, as_markdown, number_text, percent
from coopseg.results.statistics import number
from coopseg.scans.files import write_atomically

METRICS = "metrics.json"
SPREAD = ("dice", "hd95", "assd")  # measures with a standard deviation
TITLES = {ALL: "All volumes", "phase": "By phase", "vendor": "By vendor", "site": "By site"}
NOTE = (
    "Dice and distances: mean ± standard deviation over patients, volumes of a patient averaged first. "
    "HD95 and ASSD in mm over what could be measured; missing: the share in which one of prediction and "
    "truth is empty, and in brackets how many structures that are."
)

Summary = dict[str, Any]  # an entry of metrics.json


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """Returns summaries of the rows of `evaluate`, one for each group, value, data set, head and class.

    Groups are "all" volumes, then each "phase", "vendor" and "site" where the rows name one; a site is
    "vendor/centre". Class "mean" is the mean over the foreground classes of each volume. Copies and phases
    of a patient are averaged first, so that n is the number of patients, and every mean and standard
    deviation (n − 1; None for one patient) is over patients.

    dice_below_0.5, dice_below_0.1, distance_missing: shares of a patient's volumes, averaged over patients.
    hd95 and assd are over the volumes in which they could be measured; distance_missing is the share in which
    prediction or truth was empty but not both, so that a good mean with many missing can be seen for what it
    is; `missing` is their number. Both empty is not counted.
    Raises CoopsegError where there are no rows.
    """
    if not rows:
        raise CoopsegError("there is nothing to summarise: no volume was evaluated")
    scores = per_patient(pd.DataFrame(rows, columns=list(COLUMNS)))
    keys = ["group", "value", "dataset", "head", "class"]
    found: list[Summary] = [
        {**dict(zip(keys, key, strict=True)), **_summary(part)}
        for key, part in scores.groupby(keys, sort=False)
    ]
    for mean in (entry for entry in found if entry["class"] == MEAN):
        own = [entry for entry in found if _line(entry) == _line(mean) and entry is not mean]
        mean["missing"] = sum(entry["missing"] for entry in own)
    return found


def _summary(part: pd.DataFrame) -> Summary:
    """part: a line a patient."""
    summary: Summary = {"patients": len(part), "volumes": int(part[VOLUMES].sum())}
    for column in MEASURES:
        if column in SPREAD:
            summary[f"{column}_mean"] = number(part[column].mean())
            summary[f"{column}_sd"] = number(part[column].std(ddof=1))
        else:
            summary[column] = number(part[column].mean())
    return summary | {"missing": round((part["distance_missing"] * part[VOLUMES]).sum())}


def _line(summary: Summary) -> tuple[str, str, str, str]:
    return summary["group"], summary["value"], summary["dataset"], summary["head"]


def summary_table(summaries: Sequence[Summary], group: str = ALL) -> Table:
    """Returns Dice, that of each class, failures and distances, a line a data set, value and head."""
    chosen = [summary for summary in summaries if summary["group"] == group]
    classes = list(dict.fromkeys(summary["class"] for summary in chosen if summary["class"] != MEAN))
    by_line: dict[tuple[str, str, str, str], dict[str, Summary]] = {}
    for summary in chosen:
        by_line.setdefault(_line(summary), {})[summary["class"]] = summary
    lines = tuple(
        Line(
            (dataset, value, head, str(own[MEAN]["patients"])),
            (
                _spread(own[MEAN], "dice", 3),
                *(_spread(own[name], "dice", 3) if name in own else Shown("–") for name in classes),
                *(Shown(percent(own[MEAN][f"dice_below_{limit}"])) for limit in FAILURES),
                _spread(own[MEAN], "hd95", 1),
                _spread(own[MEAN], "assd", 2),
                Shown(percent(own[MEAN]["distance_missing"]), f"({own[MEAN]['missing']})"),
            ),
        )
        for (_, value, dataset, head), own in by_line.items()
    )
    titles = ("Dice", *classes, *(f"< {limit}" for limit in FAILURES), "HD95", "ASSD", "missing")
    names = ("data set", "", "head", "patients")
    return Table(names, tuple(map(Heading, titles)), lines, TITLES[group])


def markdown(summaries: Sequence[Summary]) -> str:
    """Returns tables for people: all volumes, then by phase, vendor and site where the rows name one."""
    groups = [group for group in TITLES if any(summary["group"] == group for summary in summaries)]
    tables = [summary_table(summaries, group) for group in groups]
    parts = [f"## {table.title}\n\n{as_markdown(table)}" for table in tables]
    return "\n\n".join([*parts, NOTE]) + "\n"


def _spread(summary: Summary, column: str, digits: int) -> Shown:
    sd = summary[f"{column}_sd"]
    more = "" if sd is None else f"± {number_text(sd, digits)}"
    return Shown(number_text(summary[f"{column}_mean"], digits), more)


def write_tables(rows: Sequence[Row], out: Path) -> list[Summary]:
    """Write cases.csv (all rows), metrics.json (summary and rows) and metrics.md into folder `out`.

    What could not be measured is an empty field in the CSV and null in the JSON. Returns the summaries.
    """
    summaries = summarise(rows)
    plain = [{key: _plain(value) for key, value in row.items()} for row in rows]
    contents = {
        "cases.csv": pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False),
        METRICS: json.dumps({"summary": summaries, "rows": plain}, indent=1, allow_nan=False) + "\n",
        "metrics.md": markdown(summaries),
    }
    for name, content in contents.items():
        write_atomically(out / name, content.encode())
    return summaries


def _plain(value: Any) -> Any:
    return number(value) if isinstance(value, float) else value
