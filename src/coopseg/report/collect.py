"""All that a report shows, as one plain dictionary: what report.json holds and the page is made of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from coopseg import __version__
from coopseg.report.answer import answer, ask, find_baseline
from coopseg.report.cases import all_volumes, dots, slowest, worst
from coopseg.report.images import class_colours
from coopseg.report.pictures import hard_examples, slice_pictures
from coopseg.report.provenance import describe_run, settings_table, versions_table
from coopseg.report.scores import MEAN, Method, find_columns, find_methods, score_table
from coopseg.report.sources import Run
from coopseg.report.training import learning_rates, loss_curves, rises, validation_curves
from coopseg.scans.types import BACKGROUND


def collect(runs: Sequence[Run]) -> dict[str, Any]:
    """The content of a report on these runs; JSON types only, no NaN."""
    methods, columns = find_methods(runs), find_columns(runs)
    every = all_volumes(methods)
    return {
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "coopseg": __version__,
        "question": ask(methods),
        "answer": answer(methods, columns),
        "baseline": find_baseline(methods).name,
        "methods": [describe_method(method) for method in methods],
        "classes": class_colours(_classes(runs)),
        "columns": columns,
        "tables": _tables(methods, columns, _classes(runs)),
        "dots": dots(methods, columns, every),
        "slices": slice_pictures(methods, columns),
        "training": {
            "losses": loss_curves(runs),
            "validation": validation_curves(runs),
            "learning_rate": learning_rates(runs),
            "rises": rises(runs),
        },
        "hard_examples": hard_examples(methods),
        "worst": worst(methods, every) if columns else [],
        "slowest": slowest(every),
        "settings": settings_table(methods),
        "runs": [describe_run(run) for run in runs],
        "versions": versions_table(runs),
    }


def describe_method(method: Method) -> dict[str, Any]:
    """Name, the head that speaks for it and its runs."""
    runs = [run.label for run in method.runs]
    return {"name": method.name, "head": method.head, "heads": list(method.heads), "runs": runs}


def _classes(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.record["data"]["labels"]))


def _tables(
    methods: Sequence[Method], columns: Sequence[dict[str, Any]], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Mean Dice, Dice of each class, and distances where any was measured."""
    if not columns:
        return []
    foreground = [name for name in classes if name != BACKGROUND]
    tables = [score_table(methods, columns, of=of, measure="dice") for of in (MEAN, *foreground)]
    for measure in ("hd95", "assd"):
        table = score_table(methods, columns, of=MEAN, measure=measure)
        if any(cell["state"] == "value" for row in table["rows"] for cell in row["cells"]):
            tables.append(table)
    return tables
