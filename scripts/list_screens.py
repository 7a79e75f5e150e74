"""Prints the screens of a folder as a Markdown table, each beside the one that it is compared with.

    python scripts/list_screens.py results/screens HEAD REFERENCE[@K] [NAME[@K] ...]

Dice is the mean over 37 patients in each data set. The difference of the average over data sets is paired by
patient, with a 95 % bootstrap interval over patients: chance between trainings is not in it. NAME@K is scored
with prediction.scan_statistics K.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coopseg.results.statistics import bootstrap_interval


@dataclass(frozen=True)
class Screen:
    """Holds a network with one kind of statistics. dice: {data set: {head: {patient: Dice}}}."""

    title: str
    steps: int
    dice: dict[str, dict[str, dict[str, float]]]
    validations: list[dict[str, Any]]

    def by_patient(self, head: str) -> np.ndarray:
        """Returns (patients, data sets) of Dice, patients in the order of their names."""
        columns = [heads[head] for heads in self.dice.values()]
        return np.array([[column[patient] for column in columns] for patient in sorted(columns[0])])


def read(folder: Path, title: str) -> Screen:
    """Reads a screen. name: NAME or NAME@K."""
    name, _, k = title.partition("@")
    found = json.loads((folder / f"{name}.json").read_text())
    return Screen(title, found["steps"], found["dice"][k or "off"], found["validations"])


def main(folder: Path, head: str, reference: str, *titles: str) -> None:
    """Prints the reference first, then the others as named, or all that have its number of steps."""
    base = read(folder, reference)
    everything = (read(folder, path.stem) for path in sorted(folder.glob("*.json")))
    same = [screen for screen in everything if screen.steps == base.steps and screen.title != reference]
    chosen = [read(folder, title) for title in titles] or same
    datasets = list(base.dice)
    print(f"| screen | {' | '.join(datasets)} | average | difference [95 %] | validation, last |")
    print("|" + " --- |" * (len(datasets) + 4))
    for screen in (base, *chosen):
        if head in next(iter(screen.dice.values())):
            print(line(screen, base, head))


def line(screen: Screen, base: Screen, head: str) -> str:
    """Returns one row of the table."""
    own = screen.by_patient(head)
    apart = own - base.by_patient(head)
    interval = bootstrap_interval([apart])
    assert interval is not None  # there are 37 patients
    found = f"{apart.mean():+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]" if screen is not base else "–"
    means = [f"{value:.3f}" for value in (*own.mean(0), own.mean())]
    return f"| {screen.title} | {' | '.join(means)} | {found} | {screen.validations[-1][head]['mean']:.3f} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
