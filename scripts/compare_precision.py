"""Trains in float32 and bf16, three seeds each, on made-up scans: is what comes out the same?

    python scripts/compare_precision.py OUT results/precision.json

Trains and tests as `coopseg demo` does, cooperative training only. Finished trainings in OUT are kept.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

from coopseg.cases.splits import find_split, select_part
from coopseg.config.resolve import resolve_settings
from coopseg.demo import CASES, COLUMNS, CROSS, SMALL, TEST, TRAIN, VALIDATE, _write_split
from coopseg.evaluation.corrupt import corrupt_dataset
from coopseg.evaluation.run import evaluate_model
from coopseg.phantom.write import write_phantom
from coopseg.scans.layouts import open_dataset
from coopseg.training.run import train

SEEDS = (0, 1, 2)


def make_data(out: Path) -> tuple[dict[str, Path], Path]:
    """Writes the demo's scans; returns them, and where its split is."""
    if not (out / "phantom").exists():
        write_phantom(out / "phantom", patients=TRAIN + VALIDATE + TEST, cross_patients=CROSS, size=COLUMNS)
    data = {name: out / "phantom" / name for name in ("acdc", "mnms")}
    split = _write_split(out / "split.json", data["acdc"])
    if not (out / "corrupted").exists():
        tested = select_part(open_dataset(data["acdc"]), find_split(split), "test")
        cases = resolve_settings(overrides=CASES).cases
        corrupt_dataset(tested, out / "corrupted", copies=1, settings=cases, grid="published")
    return data, split


def dice_of(out: Path, data: dict[str, Path], split: Path, precision: str, seed: int) -> dict[str, float]:
    """Returns {"data set, head": mean foreground Dice} of one training."""
    run = out / f"{precision}-{seed}"
    if not (run / "run.json").exists():
        train(
            data["acdc"],
            run,
            preset="cpu",
            split=str(split),
            settings={**CASES, **SMALL},
            precision=precision,
            seed=seed,
        )
    if not (run / "evaluation").exists():
        sets: list[str | Path] = [
            f"same site={data['acdc']}",
            out / "corrupted",
            f"other sites={data['mnms']}",
        ]
        evaluate_model(run, sets, run / "evaluation", split=split, precision=precision, pictures=False)
    rows = json.loads((run / "evaluation" / "metrics.json").read_text())["summary"]
    whole = [row for row in rows if row["group"] == "all" and row["class"] == "mean"]
    return {f"{row['dataset']}, {row['head']}": row["dice_mean"] for row in whole}


def compare(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Returns means, spreads and their difference in pooled standard deviations, for each column."""
    table = {}
    for column in found["32"][0]:
        values = {precision: [scores[column] for scores in runs] for precision, runs in found.items()}
        means = {precision: statistics.mean(v) for precision, v in values.items()}
        deviations = {precision: statistics.stdev(v) for precision, v in values.items()}
        pooled = statistics.mean(d**2 for d in deviations.values()) ** 0.5
        table[column] = {
            **{f"mean {precision}": mean for precision, mean in means.items()},
            **{f"sd {precision}": deviation for precision, deviation in deviations.items()},
            "difference in pooled sd": (means["bf16"] - means["32"]) / pooled,
        }
    return table


def main(out: Path, result: Path) -> None:
    """Trains in both precisions and writes the Dice of every seed to `result`."""
    out.mkdir(parents=True, exist_ok=True)
    data, split = make_data(out)
    found = {
        precision: [dice_of(out, data, split, precision, seed) for seed in SEEDS]
        for precision in ("32", "bf16")
    }
    table = compare(found)
    content = {"date": time.strftime("%Y-%m-%d"), "command": sys.argv, "trainings": found, "table": table}
    result.write_text(json.dumps(content, indent=1) + "\n")
    for column, row in table.items():
        print(f"{column:28}", "  ".join(f"{name} {value:.3f}" for name, value in row.items()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
