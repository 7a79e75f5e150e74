"""Trains one candidate of the recipe and scores it on what settings may be chosen by, never on a test column.

    python scripts/screen.py --data $ACDC --work DIR --out results/screens NAME METHOD STEPS [KEY=VALUE ...]

The split is acdc-choose-A: ten training patients. Scored are the five validation patients together with the
32 that are in no training draw, no validation and no test set, clean and under five artefacts that no test
column has; each with running statistics and with a mix of the scan's own (--k). OUT/NAME.json holds the Dice
of every patient, data set and head, the validation curve, all that was asked for, and what it cost. A screen
that was interrupted goes on; for one that has ended only a further --k is scored.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import coopseg
from coopseg.cases.splits import get_split, select_patients
from coopseg.config.resolve import resolve_settings
from coopseg.evaluation.corrupt import corrupt_dataset
from coopseg.evaluation.corruptions import CHOICE_KINDS
from coopseg.evaluation.run import evaluate_subject
from coopseg.evaluation.subject import load_subject
from coopseg.scans.files import write_atomically
from coopseg.scans.layouts import open_dataset
from coopseg.scans.types import Dataset
from coopseg.training.run import resume, train

SPLIT = "acdc-choose-A"


def main(arguments: argparse.Namespace) -> None:
    """Runs one screen from its first step to its JSON."""
    target, run = arguments.out / f"{arguments.name}.json", arguments.work / "runs" / arguments.name
    found = json.loads(target.read_text()) if target.is_file() else trained(arguments, run)
    data = choice_data(arguments.data, arguments.work)
    for k in ("off", *arguments.k):
        if k not in found["dice"]:
            found["dice"][k] = score(run, data, k)
            found["means"][k] = means(found["dice"][k])
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_atomically(target, (json.dumps(found, indent=1) + "\n").encode())


def trained(arguments: argparse.Namespace, run: Path) -> dict[str, Any]:
    """Trains, or goes on; returns what was asked for and what it cost, without scores."""
    settings = [f"training.steps={arguments.steps}", *arguments.settings]
    if (run / "request.json").is_file():
        resume(run)
    else:
        train(
            arguments.data,
            run,
            preset=arguments.preset,
            method=arguments.method,
            split=SPLIT,
            settings=settings,
            seed=arguments.seed,
            device="cpu",
            precision=arguments.precision,
            cache=arguments.work / "cache",
        )
    record = json.loads((run / "run.json").read_text())
    return {
        "name": arguments.name,
        "method": arguments.method,
        "preset": arguments.preset,
        "settings": settings,
        "seed": arguments.seed,
        "precision": arguments.precision,
        "split": SPLIT,
        "commit": commit(),
        "steps": record["steps"],
        "threads": record["threads"],
        "seconds_of_training_beside_other_work": round(record["seconds"]),
        "validations": record["validations"],
        "dice": {},
        "means": {},
    }


def choice_data(data: Path, work: Path) -> list[Dataset]:
    """Returns the 37 patients clean, and one copy of each volume under each artefact, made once."""
    dataset = open_dataset(data)
    split = get_split(SPLIT, dataset)
    clean = select_patients(dataset, (*split.validate, *split.test))
    folder = work / "choice"
    if not folder.is_dir():
        cases = resolve_settings(preset="cpu").cases
        corrupt_dataset(
            clean, folder, copies=1, kinds=CHOICE_KINDS, settings=cases, grid="published", workers=1
        )
    return [clean, *(open_dataset(folder / kind) for kind in CHOICE_KINDS)]


def score(run: Path, data: list[Dataset], k: str) -> dict[str, dict[str, dict[str, float]]]:
    """Returns {data set: {head: {patient: mean foreground Dice over phases}}}, rounded to four digits."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "evaluation"
        subject = load_subject(run, device="cpu", scan_statistics=k)
        rows = evaluate_subject(subject, data, out, spacing="nominal", workers=1, pictures=False).rows
    values: dict[Any, list[float]] = defaultdict(list)
    for row in rows:
        values[row["dataset"], row["head"], row["patient"]].append(row["dice"])
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for (dataset, head, patient), dice in values.items():
        found[dataset][head][patient] = round(float(np.mean(dice)), 4)
    return found


def means(dice: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Returns {head: {data set: mean over patients, "average": over data sets}}."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for dataset, heads in dice.items():
        for head, patients in heads.items():
            found[head][dataset] = round(float(np.mean(list(patients.values()))), 4)
    return {
        head: values | {"average": round(float(np.mean(list(values.values()))), 4)}
        for head, values in found.items()
    }


def commit() -> str:
    """Returns the commit of the code that ran."""
    folder = Path(coopseg.__file__).parent
    asked = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--precision", default="32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--k", action="append", default=[], help="prediction.scan_statistics, may be repeated"
    )
    parser.add_argument("name")
    parser.add_argument("method")
    parser.add_argument("steps", type=int)
    parser.add_argument("settings", nargs="*")
    main(parser.parse_args())
