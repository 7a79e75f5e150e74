"""From rows to summaries: means over patients, failure shares, missing distances; CSV, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import COLUMNS, Row
from coopseg.results.patients import FAILURES, MEAN, MEASURES, VOLUMES, per_patient
from coopseg.results.statistics import number
from coopseg.scans.files import write_atomically

SPREAD = ("dice", "hd95", "assd")  # measures with a standard deviation


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns summaries of the rows of `evaluate`, one for each group, value, data set, head and class.

    Groups are "all" volumes, then each "phase", "vendor" and "site" where the rows name one; a site is
    "vendor/centre". Class "mean" is the mean over the foreground classes of each volume. Copies and phases
    of a patient are averaged first, so that n is the number of patients, and every mean and standard
    deviation (n − 1; None for one patient) is over patients.

    dice_below_0.5, dice_below_0.1, distance_missing: shares of a patient's volumes, averaged over patients.
    hd95 and assd are over the volumes in which they could be measured; distance_missing is the share in which
    prediction or truth was empty but not both, so that a good mean with many missing can be seen for what it
    is. Both empty is not counted.
    Raises CoopsegError where there are no rows.
    """
    if not rows:
        raise CoopsegError("there is nothing to summarise: no volume was evaluated")
    scores = per_patient(pd.DataFrame(rows, columns=list(COLUMNS)))
    keys = ["group", "value", "dataset", "head", "class"]
    return [
        dict(zip(keys, key, strict=True)) | _summary(part) for key, part in scores.groupby(keys, sort=False)
    ]


def _summary(part: pd.DataFrame) -> dict[str, Any]:
    """part: a line a patient."""
    summary: dict[str, Any] = {"patients": len(part), "volumes": int(part[VOLUMES].sum())}
    for column in MEASURES:
        if column in SPREAD:
            summary[f"{column}_mean"] = number(part[column].mean())
            summary[f"{column}_sd"] = number(part[column].std(ddof=1))
        else:
            summary[column] = number(part[column].mean())
    return summary


def markdown(summaries: Sequence[dict[str, Any]]) -> str:
    """Tables for people: one line per data set and head (and phase, vendor, site), Dice as mean ± sd."""
    titles = {"all": "All volumes", "phase": "By phase", "vendor": "By vendor", "site": "By site"}
    parts = []
    for group, title in titles.items():
        if chosen := [summary for summary in summaries if summary["group"] == group]:
            parts.append(f"## {title}\n\n{_table(chosen)}")
    note = (
        "Dice and distances: mean ± standard deviation over patients, volumes of a patient averaged first. "
        "HD95 and ASSD in mm over what could be measured; missing: the share in which one of prediction and "
        "truth is empty."
    )
    return "\n\n".join([*parts, note]) + "\n"


def _table(summaries: Sequence[dict[str, Any]]) -> str:
    classes = list(dict.fromkeys(summary["class"] for summary in summaries if summary["class"] != MEAN))
    lines: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for summary in summaries:
        key = (summary["dataset"], summary["value"], summary["head"])
        lines.setdefault(key, {})[summary["class"]] = summary
    header = [
        "data set",
        "",
        "head",
        "patients",
        "Dice",
        *classes,
        "< 0.5",
        "< 0.1",
        "HD95",
        "ASSD",
        "missing",
    ]
    text = [_line(header), _line(["---"] * len(header))]
    for (dataset, value, head), by_class in lines.items():
        mean = by_class[MEAN]
        cells = [dataset, value, head, str(mean["patients"]), _spread(mean, "dice", 3)]
        cells += [_spread(by_class[name], "dice", 3) if name in by_class else "–" for name in classes]
        cells += [f"{100 * mean[f'dice_below_{limit}']:.0f} %" for limit in FAILURES]
        cells += [
            _spread(mean, "hd95", 1),
            _spread(mean, "assd", 2),
            f"{100 * mean['distance_missing']:.0f} %",
        ]
        text.append(_line(cells))
    return "\n".join(text)


def _spread(summary: dict[str, Any], column: str, digits: int) -> str:
    mean, sd = summary[f"{column}_mean"], summary[f"{column}_sd"]
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write_tables(rows: Sequence[Row], out: Path) -> list[dict[str, Any]]:
    """Write cases.csv (all rows), metrics.json (summary and rows) and metrics.md into folder `out`.

    What could not be measured is an empty field in the CSV and null in the JSON. Returns the summaries.
    """
    summaries = summarise(rows)
    plain = [{key: _plain(value) for key, value in row.items()} for row in rows]
    contents = {
        "cases.csv": pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False),
        "metrics.json": json.dumps({"summary": summaries, "rows": plain}, indent=1, allow_nan=False) + "\n",
        "metrics.md": markdown(summaries),
    }
    for name, content in contents.items():
        write_atomically(out / name, content.encode())
    return summaries


def _plain(value: Any) -> Any:
    return number(value) if isinstance(value, float) else value
