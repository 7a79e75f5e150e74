"""Where the numbers come from: settings, versions, time, memory, commands and warnings of every run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coopseg.inference.predictor import HEADS
from coopseg.report.scores import Method
from coopseg.report.sources import Run
from coopseg.text import flatten

OF_EVALUATION = ("device", "precision", "refinements", "scan_statistics", "spacing")


def settings_table(methods: Sequence[Method]) -> dict[str, Any]:
    """Every setting with its values by method; `differing` are those not the same in all runs.

    `pooled` names, for each method, settings beside the seed in which its own runs differ.
    """
    flat = {m.name: [flatten(run.record["settings"]) for run in m.runs] for m in methods}
    keys = list(dict.fromkeys(key for runs in flat.values() for settings in runs for key in settings))
    table: list[dict[str, Any]] = []
    for key in keys:
        values = {name: distinct(settings.get(key) for settings in runs) for name, runs in flat.items()}
        everything = distinct(value for found in values.values() for value in found)
        table.append({"key": key, "values": values, "differs": len(everything) > 1})
    pooled = {
        method.name: [
            row["key"] for row in table if len(row["values"][method.name]) > 1 and row["key"] != "seed"
        ]
        for method in methods
    }
    return {"rows": table, "pooled": {name: keys for name, keys in pooled.items() if keys}}


def distinct(values: Any) -> list[Any]:
    """Each value once, in order; they need not be hashable."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def describe_run(run: Run) -> dict[str, Any]:
    """Facts of one run that are shown: where, how long, on what, with what warnings."""
    record = run.record
    keys = (
        "started", "steps", "slices", "device", "processes", "threads", "seconds", "seconds_per_step",
        "peak_memory_gb",
    )  # fmt: skip
    return {
        "method": run.method,
        "run": run.label,
        "folder": str(run.folder),
        "sha256": run.sha256,
        "seed": record["settings"]["seed"],
        "data": record["data"],
        "split": {name: len(record["split"][name]) for name in ("train", "validate", "test")}
        | {"name": record["split"]["name"]},
        **{key: record.get(key) for key in keys},
        "validation": _validation(record),
        "command": command_text(record.get("command")),
        "warnings": record.get("warnings", []),
        "versions": record.get("versions", {}),
        "evaluations": [
            {
                "folder": str(entry.folder),
                "command": command_text(entry.record.get("command")),
                **{key: entry.record.get(key) for key in OF_EVALUATION},
                "versions": entry.record.get("versions", {}),
                "warnings": entry.record.get("warnings", []),
            }
            for entry in run.evaluations
        ],
    }


def _validation(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each head the Dice of its last validation, and "step" and "score" of its best, None if not kept."""
    last, best = (record.get("validations") or [{}])[-1], record.get("best", {})
    return {head: {"last": last[head]["mean"], "best": best.get(head)} for head in HEADS if head in last}


def command_text(words: list[str] | None) -> str:
    """As one would type it; the program's own path says nothing."""
    if not words:
        return ""
    name = Path(words[0]).name
    program = ["python", "-m", "coopseg"] if name == "__main__.py" else [name]
    return shlex.join([*program, *words[1:]])


def versions_table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Versions of libraries by what used them: one row a library, its distinct versions."""
    used = [run.record.get("versions", {}) for run in runs]
    used += [entry.record.get("versions", {}) for run in runs for entry in run.evaluations]
    keys = dict.fromkeys(key for versions in used for key in versions)
    return [{"name": key, "versions": distinct(v[key] for v in used if key in v)} for key in keys]
