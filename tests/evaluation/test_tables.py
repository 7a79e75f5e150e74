"""Summaries: patients first, spread, failures, missing distances; and what is written."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import COLUMNS
from coopseg.evaluation.tables import Summary, compare_heads, markdown, summarise, write_tables

NAN = math.nan


def make_rows(entries: Iterable[tuple[Any, ...]], **facts: Any) -> list[Any]:
    """Rows from (patient, phase, copy, class, dice, hd95, distance); assd is half of hd95."""
    rows: list[Any] = []
    for patient, phase, copy, name, dice, hd95, distance in entries:
        row = {"dataset": "D", "case": f"{patient}_{phase}_{copy}", "site": "", "head": "FTN", **facts}
        row |= {"patient": patient, "phase": phase, "copy": copy, "class": name, "dice": dice}
        rows.append(
            row | {"hd95": hd95, "assd": hd95 / 2, "nsd": dice / 2, "distance": distance, "seconds": 0.25}
        )
    return rows


@pytest.fixture
def rows() -> list[Any]:
    """Patient p1 with three volumes, p2 with one; LV and RV."""
    return make_rows(
        [
            ("p1", "ED", 1, "LV", 0.9, 2.0, "measured"),
            ("p1", "ED", 1, "RV", 0.7, 4.0, "measured"),
            ("p1", "ED", 2, "LV", 0.6, 6.0, "measured"),
            ("p1", "ED", 2, "RV", 0.0, NAN, "one empty"),
            ("p1", "ES", 1, "LV", 0.0, NAN, "one empty"),
            ("p1", "ES", 1, "RV", 0.1, 9.0, "measured"),
            ("p2", "ED", 1, "LV", 0.8, 1.0, "measured"),
            ("p2", "ED", 1, "RV", 1.0, NAN, "both empty"),
        ]
    )


def pick(summaries: list[Summary], name: str, group: str = "all", value: str = "") -> dict[str, Any]:
    (found,) = [s for s in summaries if (s.name, s.group, s.value) == (name, group, value)]
    return found.as_json()


def test_patients_first(rows: list[Any]) -> None:
    found = pick(summarise(rows), "LV")
    patients = [(0.9 + 0.6 + 0.0) / 3, 0.8]
    assert (found["patients"], found["volumes"]) == (2, 4)
    assert found["dice_mean"] == pytest.approx(np.mean(patients))
    assert found["dice_sd"] == pytest.approx(np.std(patients, ddof=1))
    assert found["hd95_mean"] == pytest.approx(np.mean([(2 + 6) / 2, 1]))
    assert found["assd_mean"] == pytest.approx(found["hd95_mean"] / 2)
    assert found["distance_missing"] == pytest.approx((1 / 3 + 0) / 2)


def test_foreground_mean_and_failures(rows: list[Any]) -> None:
    found = pick(summarise(rows), "mean")
    volumes = {"p1": [0.8, 0.3, 0.05], "p2": [0.9]}
    assert found["dice_mean"] == pytest.approx(np.mean([np.mean(v) for v in volumes.values()]))
    assert found["dice_below_0.5"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["dice_below_0.1"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["hd95_mean"] == pytest.approx(np.mean([(3 + 6 + 9) / 3, 1]))
    assert found["distance_missing"] == pytest.approx((2 / 6 + 0) / 2)  # both empty is not counted


def test_exactly_the_limit_is_no_failure() -> None:
    rows = make_rows([("p1", "ED", 0, "LV", 0.5, NAN, "spacing unknown")])
    assert pick(summarise(rows), "LV")["dice_below_0.5"] == 0


def test_groups(rows: list[Any]) -> None:
    sites = make_rows([("p3", "", 0, "LV", 0.4, NAN, "one empty")], site="Siemens/1")
    sites += make_rows([("p4", "", 0, "LV", 0.6, NAN, "one empty")], site="Siemens/2")
    summaries = summarise(rows + sites)
    assert pick(summaries, "LV", "phase", "ES")["patients"] == 1
    assert pick(summaries, "LV", "vendor", "Siemens")["dice_mean"] == pytest.approx(0.5)
    assert pick(summaries, "LV", "site", "Siemens/2")["dice_mean"] == pytest.approx(0.6)
    assert {(s.group, s.value) for s in summaries} == {
        ("all", ""),
        ("phase", "ED"),
        ("phase", "ES"),
        ("vendor", "Siemens"),
        ("site", "Siemens/1"),
        ("site", "Siemens/2"),
    }


def test_heads_and_datasets_apart_and_in_order(rows: list[Any]) -> None:
    other = [row | {"head": "A head", "dice": 0.0} for row in rows] + [row | {"dataset": "B"} for row in rows]
    keys = [(s.dataset, s.head) for s in summarise(rows + other) if s.name == "mean"]
    assert keys[:3] == [("D", "FTN"), ("D", "A head"), ("B", "FTN")]


def test_an_stn_that_does_not_help_is_said() -> None:
    def scored(dataset: str, ftn: float, refined: float) -> list[Any]:
        return [
            row
            for head, value in (("FTN", ftn), ("FTN+STN", refined))
            for row in make_rows([("p1", "", 0, "LV", value, 1.0, "measured")], head=head, dataset=dataset)
        ]

    lower, higher = scored("A", 0.8, 0.7), scored("B", 0.5, 0.6)
    assert "lower Dice than the FTN on A;" in compare_heads(summarise(lower))
    assert "on every data set" in compare_heads(summarise(lower + scored("C", 0.9, 0.8)))
    assert not compare_heads(summarise(lower + higher))
    assert not compare_heads(summarise(lower[:1]))


def test_one_patient_and_nothing_measured() -> None:
    found = pick(summarise(make_rows([("p1", "", 0, "LV", 0.5, NAN, "spacing unknown")])), "LV")
    assert [found[key] for key in ("dice_sd", "hd95_mean", "hd95_sd", "assd_mean")] == [None] * 4
    assert found["distance_missing"] == 0


def test_files(rows: list[Any], tmp_path: Path) -> None:
    summaries = write_tables(rows, tmp_path / "out")
    with (tmp_path / "out" / "cases.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert tuple(table[0]) == COLUMNS
    assert [float(line["dice"]) for line in table] == [row["dice"] for row in rows]
    assert table[3]["hd95"] == ""
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert stored["summary"] == [summary.as_json() for summary in summaries]
    assert stored["rows"][3]["hd95"] is None
    assert stored["rows"][0] == rows[0]
    assert (tmp_path / "out" / "metrics.md").read_text() == markdown(summaries)


def test_markdown(rows: list[Any]) -> None:
    text = markdown(summarise(rows))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "| D |  | FTN | 2 | 0.642 ± 0.365 | 0.650 ± 0.212 | 0.633 ± 0.519 | 33 % | 17 % |" in text
    assert "## By phase" in text
    assert "## By site" not in text
    assert "nan" not in text.lower()


def test_nothing_to_summarise() -> None:
    with pytest.raises(CoopsegError, match="no volume was evaluated"):
        summarise([])
