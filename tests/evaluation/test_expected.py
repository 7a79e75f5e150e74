"""How good estimates were, counted by hand, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from coopseg.evaluation.evaluate import Row
from coopseg.evaluation.expected import TABLE, compare_expected, write_expected
from coopseg.quality.calibration import Expected

CASES = {  # true and expected Dice of RV and LV, and whether it was flagged
    "a": ((0.9, 0.8), (0.8, 0.8), False),
    "b": ((0.5, 0.6), (0.6, 0.5), True),
    "c": ((0.6, 0.7), (0.9, 0.9), False),
    "d": ((0.9, 0.9), (0.6, 0.6), True),
}


def make(
    interval: float | None,
) -> tuple[list[Row], dict[tuple[str, str], Expected]]:
    rows: list[Any] = []
    expected = {}
    for case, (true, foretold, flagged) in CASES.items():
        dice = dict(zip(("RV", "LV"), foretold, strict=True))
        low, high = ({n: v + s * interval for n, v in dice.items()} if interval else None for s in (-1, 1))
        expected["set", case] = Expected(dice, sum(foretold) / 2, low, high, flagged)
        for head in ("FTN", "FTN+STN"):
            for name, value in zip(("RV", "LV"), true, strict=True):
                row = {"dataset": "set", "case": case, "patient": case, "head": head, "class": name}
                rows.append(row | {"dice": value if head == "FTN" else 0.0})
    return cast("list[Row]", rows), expected


def test_counts_by_hand(tmp_path: Path) -> None:
    rows, expected = make(0.15)
    (found,) = write_expected(rows, expected, "FTN", tmp_path, bad=0.7)
    assert (found.dataset, found.volumes, found.bad, found.flagged, found.missed) == ("set", 4, 2, 2, 1)
    assert found.error == pytest.approx((0.1 + 0 + 0.1 + 0.1 + 0.3 + 0.2 + 0.3 + 0.3) / 8)
    assert found.within == pytest.approx(4 / 8)
    assert found.auroc == pytest.approx(2 / 4)  # b lies below a and d; c below neither
    assert found.describe() == (
        "set, 4 volumes: expected Dice 0.175 off on average; flagged 1 of 2 bad ones (true mean Dice below "
        "0.7) and 1 of 2 others; 50 % of true values within the interval"
    )
    table = pd.read_csv(tmp_path / TABLE)
    assert list(table["case"]) == [case for case in CASES for _ in range(2)]
    assert compare_expected(table, bad=0.7) == [found]
    (stricter,) = compare_expected(table, bad=0.86)
    assert (stricter.bad, stricter.missed) == (3, 2)
    assert "below 0.86" in stricter.describe()


def test_without_an_interval_and_without_anything(tmp_path: Path) -> None:
    rows, expected = make(None)
    (found,) = write_expected(rows, expected, "FTN", tmp_path, bad=0.7)
    assert found.within is None
    assert "within" not in found.describe()
    (tmp_path / TABLE).unlink()
    assert write_expected(rows, {}, "FTN", tmp_path, bad=0.7) == []
    assert not (tmp_path / TABLE).exists()
