"""Lays several evaluations side by side, as one Markdown table and one JSON file.

    python scripts/compare.py OUT.json NAME=EVALUATION[,RUN] ...

EVALUATION is the --out of `coopseg evaluate`, RUN the --out of the training. Columns are the data sets in
the order of the first evaluation, rows are NAME and head. A cell is the mean foreground Dice, mean ± standard
deviation over patients; "average" is the mean over columns. Further tables: per class, per phase, per vendor.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read(argument: str) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """Returns name, summaries and what the record says of model and training."""
    name, _, folders = argument.partition("=")
    evaluation, _, run = folders.partition(",")
    summaries = json.loads((Path(evaluation) / "metrics.json").read_text())["summary"]
    facts = {"sha256": json.loads((Path(evaluation) / "evaluation.json").read_text())["model"]["sha256"]}
    if run:
        record = json.loads((Path(run) / "run.json").read_text())
        kept = ("settings", "split", "steps", "slices", "threads", "seconds_per_step", "peak_memory_gb")
        facts |= {key: record[key] for key in (*kept, "best", "validations", "versions") if key in record}
    return name, summaries, facts


def row(label: str, summaries: list[dict[str, Any]], columns: list[str], **wanted: str) -> str:
    """Returns one line of the table; `wanted` fixes head, class, group and value."""
    found = {s["dataset"]: s for s in summaries if all(s[key] == value for key, value in wanted.items())}
    cells = [found.get(column) for column in columns]
    texts = ["n/a" if cell is None else f"{cell['dice_mean']:.3f} ± {cell['dice_sd']:.3f}" for cell in cells]
    means = [cell["dice_mean"] for cell in cells if cell is not None]
    return f"| {label} | {' | '.join(texts)} | {sum(means) / len(means):.3f} |"


def table(entries: list[tuple[str, list[dict[str, Any]]]], columns: list[str], **wanted: str) -> str:
    """Returns a Markdown table: a line for each evaluation and head, a column for each data set."""
    lines = [f"| | {' | '.join(columns)} | average |", "|---" * (len(columns) + 2) + "|"]
    for name, summaries in entries:
        for head in dict.fromkeys(summary["head"] for summary in summaries):
            lines.append(row(f"{name}, {head}", summaries, columns, head=head, **wanted))
    return "\n".join(lines)


def main(out: Path, arguments: list[str]) -> None:
    """Prints the tables of the evaluations named in `arguments` and writes them to `out`."""
    read_in = [read(argument) for argument in arguments]
    entries = [(name, summaries) for name, summaries, _ in read_in]
    columns = list(dict.fromkeys(summary["dataset"] for summary in entries[0][1]))
    classes = list(dict.fromkeys(summary["class"] for summary in entries[0][1]))
    for name in ("mean", *(name for name in classes if name != "mean")):
        print(f"\nClass {name}\n\n" + table(entries, columns, group="all", value="", **{"class": name}))
    groups = {(s["group"], s["value"]) for s in entries[0][1] if s["group"] in ("phase", "vendor")}
    for group, value in sorted(groups):
        holders = [
            c for c in columns if any(s["dataset"] == c and s["value"] == value for s in entries[0][1])
        ]
        print(
            f"\n{group} {value}\n\n" + table(entries, holders, group=group, value=value, **{"class": "mean"})
        )
    content = {name: {"summary": summaries, **facts} for name, summaries, facts in read_in}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
