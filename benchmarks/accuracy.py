"""`make bench-accuracy` finds the minutes of steps until validation Dice 0.80 and 0.85 at preset cpu.

Trains on ten ACDC patients (draw A), each time as a user would start it, in as many processes and threads as
it takes by itself; nothing else may run. Writes every validation to results/bench-accuracy.json with machine,
commit and command. The scans lie in $COOPSEG_DATA/acdc. Arguments are further options of `coopseg train`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe_machine

MARKS = (0.80, 0.85)
SEEDS = (0, 1, 2)
VALIDATIONS = 40  # the minutes of a mark are known to a fortieth of the training
OUT = Path(__file__).parents[1] / "results" / "bench-accuracy.json"


def train(data: Path, seed: int, options: list[str]) -> dict[str, Any]:
    """Trains once; returns its minutes of steps, and its validations by step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "train",
            "--data",
            str(data),
            "--split",
            "acdc-dev-A",
            "--preset",
            "cpu",
            "--device",
            "cpu",
        ]
        fixed = [
            "--set",
            f"training.validations={VALIDATIONS}",
            "--seed",
            str(seed),
            "--out",
            f"{folder}/run",
        ]
        subprocess.run([sys.executable, "-m", "coopseg", *command, *fixed, *options], check=True)
        record = json.loads((Path(folder) / "run" / "run.json").read_text())
    keys = ("method", "precision")
    return {
        "seed": seed,
        **{key: record["settings"][key] for key in keys},
        "processes": record["processes"],
        "threads": record["threads"],
        "steps": record["steps"],
        "minutes": record["seconds_per_step"] * record["steps"] / 60,
        "validations": record["validations"],
    }


def minutes_to(mark: float, run: dict[str, Any], head: str) -> float:
    """Minutes of steps until the first validation at the mark or above; infinite if there is none."""
    reached = (entry["step"] for entry in run["validations"] if entry[head]["mean"] >= mark)
    return float(next(reached, float("inf")) / run["steps"] * run["minutes"])


def main(options: list[str]) -> None:
    """Trains with every seed, prints a line each and the medians, and writes it all down."""
    data = Path(os.environ["COOPSEG_DATA"]) / "acdc"
    runs = [train(data, seed, options) for seed in SEEDS]
    heads = [head for head in ("FTN", "FTN+STN") if head in runs[0]["validations"][-1]]
    medians = {}
    for head in heads:
        for mark in MARKS:
            minutes = [minutes_to(mark, run, head) for run in runs]
            medians[f"{head} {mark:.2f}"] = median = statistics.median(minutes)
            listed = ", ".join(f"{value:.1f}" for value in minutes)
            print(f"{head}: Dice {mark:.2f} after {median:.1f} minutes, median of {listed}")
        last = ", ".join(f"{run['validations'][-1][head]['mean']:.3f}" for run in runs)
        print(f"{head}: Dice at the end, after {runs[0]['minutes']:.1f} minutes: {last}")
    known = {name: value if value < float("inf") else None for name, value in medians.items()}
    found = {
        "machine": describe_machine("make bench-accuracy"),
        "options": options,
        "median_minutes": known,
        "runs": runs,
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written to {OUT}")


if __name__ == "__main__":
    main(sys.argv[1:])
