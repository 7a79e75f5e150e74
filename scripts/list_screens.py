"""Print the screens of a folder as a Markdown table, each beside the one that it is compared with.

    python scripts/list_screens.py results/screens HEAD REFERENCE [NAME ...]

Dice is the mean over 37 patients in each data set. The difference of the average over data sets is paired by
patient, with a 95 % bootstrap interval over patients: chance between trainings is not in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from coopseg.benchmark.statistics import bootstrap_interval


def main(folder: Path, head: str, reference: str, *names: str) -> None:
    """The reference first, then the others by name, or all that have its number of steps."""
    screens = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    base = screens[reference]
    chosen = names or tuple(
        name for name, screen in screens.items() if name != reference and screen["steps"] == base["steps"]
    )
    datasets = list(base["dice"])
    print(f"| screen | {' | '.join(datasets)} | average | difference [95 %] | validation, last |")
    print("|" + " --- |" * (len(datasets) + 4))
    for name in (reference, *chosen):
        screen = screens[name]
        if head in screen["means"]:
            print(line(name, screen, base, head, datasets))


def line(name: str, screen: dict[str, Any], base: dict[str, Any], head: str, datasets: list[str]) -> str:
    """One row of the table."""
    means = [f"{screen['means'][head][dataset]:.3f}" for dataset in (*datasets, "average")]
    apart = by_patient(screen, head, datasets) - by_patient(base, head, datasets)
    interval = bootstrap_interval([apart])
    assert interval is not None  # there are 37 patients
    low, high = interval
    found = f"{apart.mean():+.3f} [{low:+.3f}, {high:+.3f}]" if screen is not base else "–"
    last = screen["validations"][-1][head]["mean"]
    return f"| {name} | {' | '.join(means)} | {found} | {last:.3f} |"


def by_patient(screen: dict[str, Any], head: str, datasets: list[str]) -> np.ndarray:
    """(patients, data sets) of Dice, patients in the order of their names."""
    columns = [screen["dice"][dataset][head] for dataset in datasets]
    return np.array([[column[patient] for column in columns] for patient in sorted(columns[0])])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
