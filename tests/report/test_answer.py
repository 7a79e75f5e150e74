"""The answer says what the scores bear: clear, unclear, mixed, one run, nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coopseg.report.answer import answer, ask
from coopseg.report.scores import find_columns, find_methods
from coopseg.report.sources import read_runs

Maker = Callable[..., Path]
SPREAD = {f"p{number}": 0.01 * number for number in range(1, 7)}


def answer_of(folders: list[Any]) -> dict[str, Any]:
    runs = read_runs(folders)
    return answer(find_methods(runs), find_columns(runs))


@pytest.fixture
def evaluated(make_run: Maker, make_evaluation: Maker) -> Callable[..., Path]:
    """A run with Dice `base` plus what the patient adds; `other` is the base on other sites."""

    def make(
        name: str, base: float, *, other: float | None = None, noise: float = 0.0, **settings: Any
    ) -> Path:
        run = make_run(name, **settings)

        def score(dataset: str, patient: str, head: str) -> float:
            start = other if other is not None and dataset == "Vendor B" else base
            return start + SPREAD[patient] + noise * (-1) ** int(patient[1])

        make_evaluation(run, scores=score)
        return run

    return make


def test_questions(make_run: Maker) -> None:
    first, second, third = make_run("a"), make_run("b", method="standard"), make_run("c")
    methods = find_methods(read_runs([first, second, f"third={third}"]))
    rest = "on scans unlike those it was trained on?"
    assert ask(methods[:1]) == f"How well does cooperative hold {rest}"
    assert ask(methods[:2]) == f"Does cooperative hold better than standard {rest}"
    assert ask(methods[1::-1]) == f"Does cooperative hold better than standard {rest}"
    assert ask([methods[2], methods[0]]) == f"Does cooperative hold better than third {rest}"
    assert ask(methods) == f"Which of cooperative, third holds better than standard {rest}"


def test_one_run_each(evaluated: Callable[..., Path]) -> None:
    ours, theirs = evaluated("a", 0.8), evaluated("b", 0.7, method="standard")
    found = answer_of([ours, theirs])
    assert found["verdict"] == "In these trainings, yes."
    assert found["sentences"][0].startswith("A method with one training says nothing about chance")
    first, second = found["comparisons"]
    assert (first["group"], first["datasets"]) == ("corrupted", ["RandBias", "RandSpike"])
    assert (first["outcome"], second["outcome"]) == ("higher", "higher")
    assert first["difference"] == pytest.approx(0.1)
    assert (first["patients"], first["paired_mean"]) == (6, pytest.approx(0.1))
    assert "cooperative (FTN+STN) reaches Dice 0.835 (one run)" in found["sentences"][1]
    assert found["sentences"][2] == "By the FTN alone: cooperative 0.835 (one run); standard 0.735 (one run)."
    assert "a difference of +0.100" in found["sentences"][1]
    assert "training domain: cooperative 0.835" in found["sentences"][-1]


def test_a_difference_within_the_spread_is_not_told(evaluated: Callable[..., Path]) -> None:
    ours, theirs = evaluated("a", 0.71, noise=0.1), evaluated("b", 0.7, method="standard")
    found = answer_of([ours, theirs])
    assert found["verdict"] == "In these trainings, this cannot be told apart from chance."
    assert "(n = 6), not more than chance between patients explains" in found["sentences"][1]


def test_worse_and_mixed(evaluated: Callable[..., Path]) -> None:
    theirs = evaluated("b", 0.7, method="standard")
    assert answer_of([evaluated("a", 0.6), theirs])["verdict"] == "In these trainings, no: it is worse."
    mixed = answer_of([evaluated("c", 0.8, other=0.6), theirs])
    assert mixed["verdict"] == (
        "In these trainings, it depends: on corrupted scans yes; on other sites no, it is worse."
    )
    assert "a difference of −0.100" in mixed["sentences"][3]


def test_several_runs_are_judged_over_runs(evaluated: Callable[..., Path]) -> None:
    ours = [evaluated(f"a{seed}", base, seed=seed) for seed, base in enumerate((0.80, 0.82))]
    near = [evaluated(f"b{seed}", base, seed=seed) for seed, base in enumerate((0.79, 0.81))]
    far = [evaluated(f"c{seed}", base, seed=seed) for seed, base in enumerate((0.70, 0.71))]
    close = answer_of([*(f"new={run}" for run in near[::-1]), *ours])  # the baseline is given first
    assert close["comparisons"][0]["over"] == "runs"
    assert close["verdict"] == "Over these runs, this cannot be told apart from chance."
    assert "0.845\u00a0±\u00a00.014 (2 runs)" in close["sentences"][1]
    clear = answer_of([*(f"old={run}" for run in far), *ours])
    assert clear["verdict"] == "Over these runs, yes."
    assert "more than the spread over runs of both together" in clear["sentences"][1]
    assert clear["sentences"][0].startswith("Two runs of a method say little")


def test_few_patients_tell_nothing(make_run: Maker, make_evaluation: Maker) -> None:
    ours, theirs = make_run("a"), make_run("b", method="standard")
    for run, score in ((ours, 0.9), (theirs, 0.5)):
        make_evaluation(run, patients=("p1", "p2"), scores=lambda *_, score=score: score)
    found = answer_of([ours, theirs])
    assert found["verdict"] == "In these trainings, this cannot be told apart from chance."
    assert "over 2 patients, too few" in found["sentences"][1]


def test_the_best_of_several_is_named_as_such(evaluated: Callable[..., Path]) -> None:
    runs = [f"{name}={evaluated(name, base)}" for name, base in (("x", 0.6), ("y", 0.7), ("z", 0.8))]
    found = answer_of(runs)
    assert "By the FTN alone: x 0.635 (one run); y 0.735" in found["sentences"][2]
    more = [*runs, *(f"{name}={evaluated(name, 0.65)}" for name in ("u", "v"))]
    assert ask(find_methods(read_runs(more))).startswith("Which of 4 other methods holds better than x on")
    assert answer_of(more)["sentences"][2].startswith("By the FTN alone: x 0.635 (one run); z 0.835")
    assert (found["comparisons"][0]["rival"], found["comparisons"][0]["baseline"]) == ("z", "x")
    assert "z (FTN+STN), the best of 2 against x, reaches" in found["sentences"][1]


def test_nothing_to_compare(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", method="standard")
    assert answer_of([first, second])["verdict"] == "Nothing has been evaluated yet."
    make_evaluation(first)
    found = answer_of([first, second])
    assert found["verdict"].startswith("No two methods were evaluated on the same")
    assert "(2 data sets) the mean Dice is cooperative 0." in found["sentences"][0]
    assert answer_of([first])["verdict"].startswith("One method alone")
