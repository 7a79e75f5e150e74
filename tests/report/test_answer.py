"""The answer says what the scores bear: above, below, open, too few, nothing, a line a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coopseg.report.answer import ONE_TRAINING, answer, ask
from coopseg.report.scores import find_columns, find_methods
from coopseg.report.sources import read_runs

Maker = Callable[..., Path]
SPREAD = {f"p{number}": 0.01 * number for number in range(1, 9)}
DATASETS = ["ACDC", "RandBias", "RandSpike", "Vendor B"]


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

        make_evaluation(run, scores=score, patients=tuple(SPREAD))
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
    found = answer_of([evaluated("a", 0.8), evaluated("b", 0.7, method="standard")])
    assert found["verdict"] == (
        "Against standard, cooperative (FTN+STN): above on 4 of 4 data sets "
        "(ACDC, RandBias, RandSpike, Vendor B)."
    )
    assert found["note"] == ONE_TRAINING
    assert [entry["dataset"] for entry in found["comparisons"]] == DATASETS
    for entry in found["comparisons"]:
        assert entry["mean"] == pytest.approx(0.1)
        assert entry["interval"] == pytest.approx((0.1, 0.1))
        assert (entry["n"], entry["trainings"], entry["outcome"]) == (8, 1, "higher")
        assert entry["p_holm"] == pytest.approx(2 / 2**8)


def test_a_difference_within_the_spread_is_open(evaluated: Callable[..., Path]) -> None:
    found = answer_of([evaluated("a", 0.71, noise=0.1), evaluated("b", 0.7, method="standard")])
    assert ": open on 4 of 4 data sets" in found["verdict"]


def test_what_is_lost_stands_beside_what_is_won(evaluated: Callable[..., Path]) -> None:
    theirs = evaluated("b", 0.7, method="standard")
    assert ": below on 4 of 4 data sets" in answer_of([evaluated("a", 0.6), theirs])["verdict"]
    mixed = answer_of([evaluated("c", 0.8, other=0.6), theirs])
    assert mixed["verdict"].endswith(
        ": above on 3 of 4 data sets (ACDC, RandBias, RandSpike), below on 1 (Vendor B)."
    )


def test_several_trainings_are_resampled_too(evaluated: Callable[..., Path]) -> None:
    """Of two trainings one is .01 above and one .03 below its partner, the same for every patient."""
    ours = [evaluated(f"a{seed}", base, seed=seed) for seed, base in enumerate((0.80, 0.82))]
    near = [evaluated(f"b{seed}", base, seed=seed) for seed, base in enumerate((0.79, 0.85))]
    far = [evaluated(f"c{seed}", base, seed=seed) for seed, base in enumerate((0.70, 0.71))]
    close = answer_of([*(f"new={run}" for run in near[::-1]), *ours])  # the baseline is given first
    assert close["comparisons"][0]["interval"] == pytest.approx((-0.03, 0.01))
    assert close["comparisons"][0]["mean"] == pytest.approx(-0.01)
    assert {entry["outcome"] for entry in close["comparisons"]} == {"open"}
    clear = answer_of([*(f"old={run}" for run in far), *ours])
    assert clear["comparisons"][0]["interval"] == pytest.approx((0.10, 0.11))
    assert {entry["outcome"] for entry in clear["comparisons"]} == {"higher"}
    assert (clear["note"], clear["comparisons"][0]["trainings"]) == ("", 2)


def test_trainings_that_have_no_partner_are_one(evaluated: Callable[..., Path]) -> None:
    ours = [evaluated(f"a{seed}", 0.8 + 0.02 * seed, seed=seed) for seed in (0, 1)]
    other = evaluated("b", 0.7, method="standard", seed=5)
    (first, *_) = answer_of([*ours, other])["comparisons"]
    assert (first["trainings"], first["mean"]) == (1, pytest.approx(0.11))


def test_few_patients_tell_nothing(make_run: Maker, make_evaluation: Maker) -> None:
    ours, theirs = make_run("a"), make_run("b", method="standard")
    for run, score in ((ours, 0.9), (theirs, 0.5)):
        make_evaluation(run, patients=tuple(SPREAD)[:5], scores=lambda *_, score=score: score)
    found = answer_of([ours, theirs])
    assert ": too few patients to tell on 4 of 4 data sets" in found["verdict"]
    assert found["verdict"].endswith("; n = 5).")


def test_several_methods(evaluated: Callable[..., Path]) -> None:
    runs = [f"{name}={evaluated(name, base)}" for name, base in (("x", 0.6), ("y", 0.5), ("z", 0.8))]
    found = answer_of(runs)
    assert found["verdict"].startswith("Against x, z (FTN+STN): above on 4 of 4 data sets")
    assert "; y (FTN+STN): below on 4 of 4 data sets" in found["verdict"]
    # Holm: two methods of one p each on a data set
    assert [entry["p_holm"] for entry in found["comparisons"]] == pytest.approx([2 * 2 / 2**8] * 8)
    more = [*runs, *(f"{name}={evaluated(name, 0.65)}" for name in ("u", "v"))]
    assert ask(find_methods(read_runs(more))).startswith("Which of 4 other methods holds better than x on")
    assert answer_of(more)["verdict"].endswith("; and 1 more below.")


def test_nothing_to_compare(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", method="standard")
    assert answer_of([first, second])["verdict"] == "Nothing has been evaluated yet."
    make_evaluation(first)
    assert answer_of([first, second])["verdict"].startswith("No two methods were evaluated on the same")
    assert answer_of([first])["verdict"].startswith("One method alone")
