"""The table: numbers by an independent route, ties, heads and data sets that are not there."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from coopseg.report.scores import find_columns, find_methods, mark_best, score_table
from coopseg.report.sources import read_runs

Maker = Callable[..., Path]


def dice_by_patient(folder: Path, dataset: str, head: str) -> list[float]:
    """From cases.csv alone: the mean over all rows of a patient (each volume has as many classes)."""
    found = defaultdict(list)
    with (folder / "cases.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["dataset"], row["head"]) == (dataset, head):
                found[row["patient"]].append(float(row["dice"]))
    return [mean(values) for values in found.values()]


def table_of(folders: list[Any], *, of: str = "mean", measure: str = "dice") -> dict[str, Any]:
    runs = read_runs(folders)
    return score_table(find_methods(runs), find_columns(runs), of=of, measure=measure)


def test_one_run(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    folder = make_evaluation(run)
    table = table_of([run])
    titles = ["ACDC", "RandBias", "RandSpike", "average", "Vendor B"]
    assert [column["title"] for column in table["columns"]] == titles
    assert [column["domain"] for column in table["columns"]] == ["intra", *["corrupted"] * 3, "other"]
    for row in table["rows"]:
        cells = dict(zip(titles, row["cells"], strict=True))
        for name in ("ACDC", "RandBias", "RandSpike", "Vendor B"):
            patients = dice_by_patient(folder, name, row["head"])
            assert cells[name]["mean"] == pytest.approx(mean(patients))
            assert cells[name]["spread"] == pytest.approx(stdev(patients))
            assert (cells[name]["spread_over"], cells[name]["patients"]) == ("patients", 6)
        both = (cells["RandBias"]["mean"] + cells["RandSpike"]["mean"]) / 2
        assert cells["average"]["mean"] == pytest.approx(both)
        assert cells["average"]["spread"] is None
    distances = table_of([run], measure="hd95")["rows"][0]["cells"][0]
    assert distances["mean"] == 4  # only the LV could be measured


def test_failures(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    make_evaluation(run, scores=lambda dataset, patient, head: 0.49 if patient in ("p1", "p2") else 0.5)
    assert table_of([run])["rows"][0]["cells"][0]["failures"] == pytest.approx(2 / 6)


def test_runs_of_one_name_are_pooled(make_run: Maker, make_evaluation: Maker) -> None:
    folders = [make_run(f"r{seed}", seed=seed) for seed in range(3)]
    evaluations = [make_evaluation(folder) for folder in folders]
    table = table_of(folders)
    assert [(row["method"], row["runs"]) for row in table["rows"]] == [("cooperative", 3)] * 2
    cell, average = table["rows"][1]["cells"][0], table["rows"][1]["cells"][3]
    means = [mean(dice_by_patient(folder, "ACDC", "FTN+STN")) for folder in evaluations]
    assert cell["runs"] == pytest.approx(means)
    assert (cell["mean"], cell["spread"]) == pytest.approx((mean(means), stdev(means)))
    assert cell["spread_over"] == "runs"
    over = [
        mean(mean(dice_by_patient(folder, name, "FTN+STN")) for name in ("RandBias", "RandSpike"))
        for folder in evaluations
    ]
    assert (average["mean"], average["spread"]) == pytest.approx((mean(over), stdev(over)))


def test_what_is_not_there(make_run: Maker, make_evaluation: Maker) -> None:
    whole, single, idle = (
        make_run("a"),
        make_run("b"),
        make_run("c", **{"losses.stn": False}),
    )
    make_evaluation(whole)
    make_evaluation(single, heads=["FTN"], datasets={"RandBias": "corrupted"})
    rows = table_of([f"whole={whole}", f"single={single}", f"idle={idle}"])["rows"]
    states = {(row["method"], row["head"]): [cell["state"] for cell in row["cells"]] for row in rows}
    no, yes = "not evaluated", "value"
    assert states["whole", "FTN"] == [yes] * 5
    assert states["single", "FTN"] == [no, yes, no, "incomplete", no]
    assert states["single", "FTN+STN"] == [no] * 5
    assert states["idle", "FTN"] == [no] * 5
    assert states["idle", "FTN+STN"] == ["n/a"] * 5


def rows_of(*columns: list[float | None], missing: float = 0.0) -> list[dict[str, Any]]:
    """Rows of one cell a column; None where there is no value. missing: the share of the last row."""
    cells = [
        [
            {"state": "n/a"}
            if value is None
            else {"state": "value", "mean": value, "missing": missing * (row == len(column) - 1)}
            for row, value in enumerate(column)
        ]
        for column in columns
    ]
    return [{"cells": list(row)} for row in zip(*cells, strict=True)]


@pytest.mark.parametrize(
    ("column", "measure", "best"),
    [
        ([0.8, 0.9, 0.7], "dice", [1]),
        ([0.8, 0.9, 0.7], "hd95", [2]),
        ([0.9001, 0.9004, 0.7], "dice", [0, 1]),  # equal as shown
        ([0.9004, 0.9006, 0.7], "dice", [1]),
        ([None, 0.2, 0.1], "dice", [1]),
        ([None, 0.2, None], "dice", []),  # nothing to compare with
        ([None, None, None], "dice", []),
    ],
)
def test_the_best_of_a_column(column: list[float | None], measure: str, best: list[int]) -> None:
    rows = rows_of(column, [0.1, 0.2, 0.3])
    mark_best(rows, measure=measure)
    assert [i for i, row in enumerate(rows) if row["cells"][0].get("best")] == best


def test_a_missing_distance_never_wins() -> None:
    """The last row's HD95 is the least, over what it did not miss: nobody is marked."""
    for measure, best in (("hd95", []), ("dice", [1])):
        rows = rows_of([3.0, 4.0, 2.0], missing=0.2)
        mark_best(rows, measure=measure)
        assert [i for i, row in enumerate(rows) if row["cells"][0]["best"]] == best


def test_other_patients_are_noticed(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", seed=1)
    make_evaluation(first)
    make_evaluation(second, patients=("p1", "p9"), datasets={"ACDC": "intra"})
    same = {column["name"]: column["same_patients"] for column in find_columns(read_runs([first, second]))}
    assert same == {"ACDC": False, "RandBias": True, "RandSpike": True, "Vendor B": True}
