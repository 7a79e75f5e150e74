"""Dots, worst and slowest volumes, against the rows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import pytest

from coopseg.report import cases
from coopseg.report.cases import all_volumes, dots, slowest, worst
from coopseg.report.scores import find_columns, find_methods
from coopseg.report.sources import read_runs

Maker = Callable[..., Path]


def volumes_of(folder: Path, head: str = "FTN+STN") -> dict[tuple[str, str], float]:
    """(data set, case): mean Dice, from cases.csv."""
    with (folder / "cases.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["head"] == head]
    keys = dict.fromkeys((row["dataset"], row["case"]) for row in rows)
    return {
        key: mean(float(row["dice"]) for row in rows if (row["dataset"], row["case"]) == key) for key in keys
    }


def test_a_dot_is_a_volume(make_run: Maker, make_evaluation: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("a")
    expected = volumes_of(make_evaluation(run))
    runs = read_runs([run])
    methods = find_methods(runs)
    column = dots(methods, find_columns(runs), all_volumes(methods))[1]
    (strip,) = column["strips"]
    assert (column["name"], strip["unit"], strip["head"]) == ("RandBias", "volume", "FTN+STN")
    points = {(column["name"], point["name"]): point["dice"] for point in strip["points"]}
    assert points == pytest.approx({key: value for key, value in expected.items() if key[0] == "RandBias"})
    assert strip["mean"] == pytest.approx(mean(points.values()))  # as many volumes of every patient
    monkeypatch.setattr(cases, "MOST_VOLUMES", 5)
    (strip,) = dots(methods, find_columns(runs), all_volumes(methods))[1]["strips"]
    assert (strip["unit"], len(strip["points"])) == ("patient", 6)


def test_a_dot_is_a_patient_of_several_runs(make_run: Maker, make_evaluation: Maker) -> None:
    folders = [make_run("a"), make_run("b", seed=1)]
    volumes = [volumes_of(make_evaluation(folder)) for folder in folders]
    runs = read_runs(folders)
    methods = find_methods(runs)
    (strip,) = dots(methods, find_columns(runs), all_volumes(methods))[0]["strips"]
    expected = mean(found["ACDC", f"p3_{phase}"] for found in volumes for phase in ("ED", "ES"))
    assert (strip["unit"], len(strip["points"]), len(strip["runs"])) == ("patient", 6, 2)
    assert {point["name"]: point["dice"] for point in strip["points"]}["p3"] == pytest.approx(expected)


def test_worst(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", method="standard")
    ours, theirs = volumes_of(make_evaluation(first)), volumes_of(make_evaluation(second))
    methods = find_methods(read_runs([first, second]))
    listed = worst(methods, all_volumes(methods))
    assert [entry["method"] for entry in listed] == ["cooperative", "standard"]
    expected = sorted(ours.items(), key=lambda item: item[1])[:10]
    found = listed[0]["cases"]
    assert [(case["dataset"], case["case"]) for case in found] == [key for key, _ in expected]
    assert [case["dice"] for case in found] == pytest.approx([value for _, value in expected])
    for case in found:
        assert case["others"] == {"standard": pytest.approx(theirs[case["dataset"], case["case"]])}
        assert (case["hd95"], case["empty"], list(case["classes"])) == (4, ["RV"], ["RV", "LV"])


def test_slowest(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    make_evaluation(run)
    found = slowest(all_volumes(find_methods(read_runs([run]))))
    seconds = [0.5 + len(case) / 100 for _, case in volumes_of(run / "evaluation")]
    assert [case["seconds"] for case in found["cases"]] == sorted(seconds, reverse=True)[:10]
    assert found["medians"] == {"cooperative": pytest.approx(median(seconds))}
    assert found["volumes"] == {"cooperative": len(seconds)}
