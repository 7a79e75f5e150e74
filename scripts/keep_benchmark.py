"""The numbers of a benchmark, without scans, weights and paths of the machine, into a folder to commit.

    python scripts/keep_benchmark.py BENCH OUT

OUT gets the tables (results.*), jobs.json (settings, validations, costs and warnings of every training),
probes.json, training logs (logs/JOB.jsonl) and cases.csv.xz, the scores of every volume and job.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

OF_RUN = (
    "settings",
    "split",
    "slices",
    "steps",
    "threads",
    "kernels",
    "seconds",
    "seconds_per_step",
    "peak_memory_gb",
    "best",
    "validations",
    "warnings",
    "versions",
)
PATHS = ("data", "cross", "command", "machine", "labels", "predictors")  # of a request, or of a job


def read(path: Path) -> dict[str, Any]:
    """A JSON file, or nothing where there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def without_paths(facts: dict[str, Any]) -> dict[str, Any]:
    """All but what tells of this machine."""
    return {key: value for key, value in facts.items() if key not in PATHS}


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def job(folder: Path) -> dict[str, Any]:
    """What a job was and what came of it."""
    run = read(folder / "training" / "run.json")
    facts = read(folder / "job.json") | read(folder / "result.json") | read(folder / "error.json")
    return without_paths(facts) | {"training": {key: run[key] for key in OF_RUN if key in run}}


def main(bench: Path, out: Path) -> None:
    (out / "logs").mkdir(parents=True, exist_ok=True)
    for table in (bench / "table").glob("results.*"):
        shutil.copy(table, out)
    results = read(out / "results.json")
    write(out / "results.json", results | {"request": without_paths(results["request"])})
    probes = [read(path) for path in sorted((bench / "probes").glob("*.json"))]
    write(out / "probes.json", [without_paths(probe) for probe in probes])
    jobs = sorted(path for path in (bench / "jobs").iterdir() if path.is_dir())
    write(out / "jobs.json", [job(folder) for folder in jobs])
    rows = []
    for folder in jobs:
        if (folder / "training" / "log.jsonl").is_file():
            shutil.copy(folder / "training" / "log.jsonl", out / "logs" / f"{folder.name}.jsonl")
        if (folder / "evaluation" / "cases.csv").is_file():
            cases = pd.read_csv(folder / "evaluation" / "cases.csv").drop(columns="seconds")
            rows.append(cases.dropna(axis="columns", how="all").round({"dice": 4}).assign(job=folder.name))
    pd.concat(rows).to_csv(out / "cases.csv.xz", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
