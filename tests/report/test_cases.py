"""Dots, worst and slowest volumes, against the rows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import pytest

from coopseg.report import cases
from coopseg.report.cases import all_volumes, slowest_table, strips, worst, worst_tables
from coopseg.report.run import report_of_runs
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
    report = report_of_runs(read_runs([run]))
    (strip,) = strips(report.results, report.volumes)["RandBias"]
    assert (strip.unit, strip.head) == ("volume", "FTN+STN")
    points = {("RandBias", name): dice for name, dice in strip.points}
    assert points == pytest.approx({key: value for key, value in expected.items() if key[0] == "RandBias"})
    assert strip.mean == pytest.approx(mean(points.values()))  # as many volumes of every patient
    monkeypatch.setattr(cases, "MOST_VOLUMES", 5)
    (strip,) = strips(report.results, report.volumes)["RandBias"]
    assert (strip.unit, len(strip.points)) == ("patient", 6)


def test_a_dot_is_a_patient_of_several_runs(make_run: Maker, make_evaluation: Maker) -> None:
    folders = [make_run("a"), make_run("b", seed=1)]
    volumes = [volumes_of(make_evaluation(folder)) for folder in folders]
    report = report_of_runs(read_runs(folders))
    (strip,) = strips(report.results, report.volumes)["ACDC"]
    expected = mean(found["ACDC", f"p3_{phase}"] for found in volumes for phase in ("ED", "ES"))
    assert (strip.unit, len(strip.points), len(strip.trainings)) == ("patient", 6, 2)
    assert dict(strip.points)["p3"] == pytest.approx(expected)


def test_worst(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", method="standard")
    ours, theirs = volumes_of(make_evaluation(first)), volumes_of(make_evaluation(second))
    report = report_of_runs(read_runs([first, second]))
    listed = worst(report.volumes)
    assert list(listed) == ["cooperative", "standard"]
    expected = sorted(ours.items(), key=lambda item: item[1])[:10]
    found = listed["cooperative"]
    assert [(case.dataset, case.case) for case in found] == [key for key, _ in expected]
    assert [case.dice for case in found] == pytest.approx([value for _, value in expected])
    for case, line in zip(found, worst_tables(report.results, report.volumes)[0].lines, strict=True):
        assert (case.hd95, case.empty, list(case.classes)) == (4, ("RV",), ["RV", "LV"])
        other = theirs[case.dataset, case.case]
        assert line.names[:2] == (case.dataset, case.case)
        assert [str(cell) for cell in line.cells] == [f"{case.dice:.3f}", "4.0", "RV", f"{other:.3f}"]


def test_slowest(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    make_evaluation(run)
    report = report_of_runs(read_runs([run]))
    found = slowest_table(report.results, report.volumes)
    assert found
    seconds = [0.5 + len(case) / 100 for _, case in volumes_of(run / "evaluation")]
    assert [line.cells[0].text for line in found.lines] == [
        f"{value:.2f}" for value in sorted(seconds, reverse=True)[:10]
    ]
    assert f"cooperative {median(seconds):.2f} s (n = {len(seconds)})" in found.caption


def test_nothing_was_evaluated(make_run: Maker) -> None:
    report = report_of_runs(read_runs([make_run("a")]))
    assert all_volumes(report.runs, report.results.last_heads) == {}
    assert slowest_table(report.results, report.volumes) is None
