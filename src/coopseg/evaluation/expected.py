"""Compares the Dice that was expected of label maps with the true one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from coopseg.evaluation.evaluate import Row
from coopseg.quality.calibration import Expected, auroc
from coopseg.scans.files import write_atomically
from coopseg.text import counted

TABLE = "quality.csv"


@dataclass(frozen=True)
class Estimate:
    """Says how good the expected Dice was in a data set.

    below: mean Dice under which the calibration calls a label map bad. bad: volumes that are. flagged: those
    that a person was told to look at, missed: bad ones that were not. error: mean distance between expected
    and true Dice of a structure. auroc: how well the expected mean Dice tells bad volumes from others; None
    if all or none are bad. within: share of true values within the interval; None without one.
    """

    dataset: str
    volumes: int
    below: float
    bad: int
    flagged: int
    missed: int
    error: float
    auroc: float | None
    within: float | None

    def describe(self) -> str:
        """Says it in a line."""
        flagged, others = self.bad - self.missed, self.volumes - self.bad
        line = (
            f"{self.dataset}, {counted(self.volumes, 'volume')}: expected Dice {self.error:.3f} off on "
            f"average; flagged {flagged} of {self.bad} bad ones (true mean Dice below {self.below:g}) and "
            f"{self.flagged - flagged} of {others} others"
        )
        within = "" if self.within is None else f"; {self.within:.0%} of true values within the interval"
        return line + within.replace("%", " %")


def write_expected(
    rows: Sequence[Row], expected: Mapping[tuple[str, str], Expected], head: str, out: Path, *, bad: float
) -> list[Estimate]:
    """Write quality.csv, if something was expected; returns what `compare_expected` does.

    A line for each volume and structure: dataset, case, patient, class, dice, expected, low, high, flagged.
    bad: see `Calibration`.
    """
    lines = []
    for row in rows:
        found = expected.get((row["dataset"], row["case"]))
        if found and row["head"] == head:
            name = row["class"]
            lines.append(
                {
                    "dataset": row["dataset"], "case": row["case"], "patient": row["patient"], "class": name,
                    "dice": row["dice"], "expected": found.dice[name],
                    "low": found.low[name] if found.low else None,
                    "high": found.high[name] if found.high else None, "flagged": found.flagged,
                }
            )  # fmt: skip
    if not lines:
        return []
    table = pd.DataFrame(lines)
    write_atomically(out / TABLE, table.to_csv(index=False, float_format="%.4f").encode())
    return compare_expected(table, bad=bad)


def compare_expected(table: pd.DataFrame, *, bad: float) -> list[Estimate]:
    """Returns how good the estimates of a table with the columns of quality.csv were, for each data set."""
    return [_compare(str(name), own, bad) for name, own in table.groupby("dataset", sort=False)]


def _compare(name: str, own: pd.DataFrame, below: float) -> Estimate:
    volumes = own.groupby("case", sort=False).agg(
        dice=("dice", "mean"), expected=("expected", "mean"), flagged=("flagged", "first")
    )
    bad, flagged = (volumes["dice"] < below).to_numpy(), volumes["flagged"].to_numpy(bool)
    known = own["low"].notna().all()
    within = own["dice"].between(own["low"], own["high"]).mean() if known else None
    return Estimate(
        name,
        len(volumes),
        below=below,
        bad=int(bad.sum()),
        flagged=int(flagged.sum()),
        missed=int((bad & ~flagged).sum()),
        error=float(np.abs(own["dice"] - own["expected"]).mean()),
        auroc=auroc(-volumes["expected"].to_numpy(), bad),
        within=None if within is None else float(within),
    )
