"""The answer says what the scores bear: above, below, open, too few, nothing, a line a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_bench import Bench

from coopseg.benchmark.collect import read_results
from coopseg.report.answer import ONE_TRAINING, Answer, answer, ask, comparison_table
from coopseg.report.run import report_of_runs
from coopseg.report.sources import Run, as_study, read_runs
from coopseg.results.table import Results, tabulate
from coopseg.results.tables import difference_table

Maker = Callable[..., Path]
SPREAD = {f"p{number}": 0.01 * number for number in range(1, 9)}
SEPARATE, JOINT = "standard (separate STN)", "standard (published: joint STN)"
DATASETS = ["ACDC", "RandBias", "RandSpike", "Vendor B"]


def answer_of(folders: list[Any]) -> Answer:
    return answer(tabulate(as_study(read_runs(folders))))


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


def question(*runs: Run) -> str:
    """The question of a report on these runs."""
    return ask(tabulate(as_study(runs)))


def test_questions(make_run: Maker) -> None:
    folders = make_run("a"), make_run("b", method="standard"), f"third={make_run('c')}"
    first, second, third = read_runs(folders)
    rest = "on scans unlike those it was trained on?"
    assert question(first) == f"How well does cooperative hold {rest}"
    assert question(first, second) == f"Does cooperative hold better than standard {rest}"
    assert question(second, first) == f"Does cooperative hold better than standard {rest}"
    assert question(third, first) == f"Does cooperative hold better than third {rest}"
    assert question(first, second, third) == f"Which of cooperative, third holds better than standard {rest}"


def test_one_run_each(evaluated: Callable[..., Path]) -> None:
    found = answer_of([evaluated("a", 0.8), evaluated("b", 0.7, method="standard")])
    assert found.verdict == (
        "Against standard, cooperative (FTN+STN): above on 4 of 4 data sets "
        "(ACDC, RandBias, RandSpike, Vendor B)."
    )
    assert found.notes == (ONE_TRAINING,)
    assert [entry.column for entry in found.comparisons] == DATASETS
    for entry in found.comparisons:
        assert entry.mean == pytest.approx(0.1)
        assert entry.interval == pytest.approx((0.1, 0.1))
        assert (entry.n, entry.trainings, entry.outcome) == (8, 1, "higher")
        assert entry.p_holm == pytest.approx(2 / 2**8)


def test_a_difference_within_the_spread_is_open(evaluated: Callable[..., Path]) -> None:
    found = answer_of([evaluated("a", 0.71, noise=0.1), evaluated("b", 0.7, method="standard")])
    assert ": open on 4 of 4 data sets" in found.verdict


def test_what_is_lost_stands_beside_what_is_won(evaluated: Callable[..., Path]) -> None:
    theirs = evaluated("b", 0.7, method="standard")
    assert ": below on 4 of 4 data sets" in answer_of([evaluated("a", 0.6), theirs]).verdict
    mixed = answer_of([evaluated("c", 0.8, other=0.6), theirs])
    assert mixed.verdict.endswith(
        ": above on 3 of 4 data sets (ACDC, RandBias, RandSpike), below on 1 (Vendor B)."
    )


def test_several_trainings_are_resampled_too(evaluated: Callable[..., Path]) -> None:
    """Of two trainings one is .01 above and one .03 below its partner, the same for every patient."""
    ours = [evaluated(f"a{seed}", base, seed=seed) for seed, base in enumerate((0.80, 0.82))]
    near = [evaluated(f"b{seed}", base, seed=seed) for seed, base in enumerate((0.79, 0.85))]
    far = [evaluated(f"c{seed}", base, seed=seed) for seed, base in enumerate((0.70, 0.71))]
    close = answer_of([*(f"new={run}" for run in near[::-1]), *ours])  # the baseline is given first
    assert close.comparisons[0].interval == pytest.approx((-0.03, 0.01))
    assert close.comparisons[0].mean == pytest.approx(-0.01)
    assert {entry.outcome for entry in close.comparisons} == {"open"}
    clear = answer_of([*(f"old={run}" for run in far), *ours])
    assert clear.comparisons[0].interval == pytest.approx((0.10, 0.11))
    assert {entry.outcome for entry in clear.comparisons} == {"higher"}
    assert (clear.notes, clear.comparisons[0].trainings) == ((), 2)


def test_trainings_that_have_no_partner_are_one(evaluated: Callable[..., Path]) -> None:
    ours = [evaluated(f"a{seed}", 0.8 + 0.02 * seed, seed=seed) for seed in (0, 1)]
    other = evaluated("b", 0.7, method="standard", seed=5)
    (first, *_) = answer_of([*ours, other]).comparisons
    assert first.trainings == 1
    assert first.mean == pytest.approx(0.11)


def test_few_patients_tell_nothing(make_run: Maker, make_evaluation: Maker) -> None:
    ours, theirs = make_run("a"), make_run("b", method="standard")
    for run, score in ((ours, 0.9), (theirs, 0.5)):
        make_evaluation(run, patients=tuple(SPREAD)[:5], scores=lambda *_, score=score: score)
    found = answer_of([ours, theirs])
    assert ": too few patients to tell on 4 of 4 data sets" in found.verdict
    assert found.verdict.endswith("; n = 5).")
    report = report_of_runs(read_runs([ours, theirs]))
    for line in comparison_table(report.results, found.comparisons).lines:
        assert [cell.text for cell in line.cells[2:]] == ["–", "5", "1", "too few patients to tell"]
        assert {cell.mark for cell in line.cells} == {""}
    table = difference_table(report.results, "standard", head="FTN+STN")
    places = [heading.text for heading in table.headings]
    shown = dict(zip(places, table.lines[0].cells, strict=True))
    for name in DATASETS:
        assert (str(shown[name]), shown[name].mark) == ("+0.400 [+0.400, +0.400], too few", "")
    assert "Too few patients to mark a best (fewer than 6): ACDC" in report.summary


def test_several_methods(evaluated: Callable[..., Path]) -> None:
    runs = [f"{name}={evaluated(name, base)}" for name, base in (("x", 0.6), ("y", 0.5), ("z", 0.8))]
    found = answer_of(runs)
    assert found.verdict.startswith("Against x, z (FTN+STN): above on 4 of 4 data sets")
    assert "; y (FTN+STN): below on 4 of 4 data sets" in found.verdict
    # Holm: two methods of one p each on a data set
    assert [entry.p_holm for entry in found.comparisons] == pytest.approx([2 * 2 / 2**8] * 8)
    more = [*runs, *(f"{name}={evaluated(name, 0.65)}" for name in ("u", "v"))]
    assert question(*read_runs(more)).startswith("Which of 4 other methods holds better than x on")
    assert answer_of(more).verdict.endswith("; 1 more in the table of differences.")


def test_nothing_to_compare(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", method="standard")
    assert answer_of([first, second]).verdict == "Nothing has been evaluated yet."
    make_evaluation(first)
    assert answer_of([first, second]).verdict.startswith("Nothing to compare")
    assert answer_of([first]).verdict.startswith("One method alone")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty benchmark folder."""
    return Bench(tmp_path / "bench")


def clear_bench(bench: Bench, gains: dict[str, float], *, own: float = 0.0) -> Results:
    """Rows that differ from standard by a known gain out of domain, and by `own` on clean own-site scans."""

    def score(facts: dict[str, Any]) -> float:
        if facts["row"] == "standard":
            return 0.5
        gain = own if facts["dataset"] == "ACDC" else gains[facts["row"]]
        return 0.5 + gain + 0.01 * (int(facts["patient"][1:]) % 3)

    bench.score = score
    for row in ("standard", *gains):
        bench.finish(row)
    return read_results(bench.folder)


def test_the_best_is_named_first_and_the_loss_on_clean_scans_stands_beside_the_gain(bench: Bench) -> None:
    results = clear_bench(bench, {"cooperative": 0.1, "randconv": 0.2, "dsu": -0.3}, own=-0.05)
    found = answer(results)
    assert found.verdict.startswith(f"Against {SEPARATE}, ")
    won = "above on 2 of 4 data sets (RandBias, RandGhost), below on 1 (ACDC), too few patients to tell on 1"
    for name in ("cooperative", "randconv"):
        assert f"{name} (FTN+STN): {won} (M&Ms; n = 6)" in found.verdict
    assert found.verdict.index("randconv") < found.verdict.index("dsu (FTN+STN): below on 3 of 4 data sets")
    clean = [entry for entry in found.comparisons if entry.column == "ACDC"]
    assert {(entry.outcome, entry.against) for entry in clean} == {("lower", "standard")}
    assert len(found.comparisons) == 3 * 4  # a line a data set, averages are in the table of differences
    assert found.notes[-1] == ONE_TRAINING


def test_both_standard_trainings_are_spoken_of(bench: Bench) -> None:
    """One gain lies above the one and below the other: each sentence says which it is held against."""
    results = clear_bench(bench, {"cooperative-no-latent": 0.1, "dsu": 0.05}, own=0.1)
    found = answer(results)
    assert found.verdict.startswith(f"Against {JOINT}, ")
    assert f"{SEPARATE} (FTN+STN): below on 3 of 4 data sets" in found.verdict
    (other,) = [note for note in found.notes if note.startswith(f"Against {SEPARATE}, ")]
    assert f"{JOINT} (FTN+STN): above on 3 of 4 data sets" in other
    assert ask(results).startswith(f"Which of {SEPARATE}, dsu holds better than {JOINT} or {SEPARATE} on")


def test_ours_is_named_wherever_it_stands(bench: Bench) -> None:
    gains = {name: 0.2 for name in ("randconv", "dsu", "rsc", "mixstyle")} | {"cooperative": -0.2}
    found = answer(clear_bench(bench, gains, own=0.1))
    assert "cooperative (FTN+STN): above on 1 of 4" in found.verdict
    assert found.verdict.endswith("; 1 more in the table of differences.")


def test_nothing_is_claimed_that_is_not_clear(bench: Bench) -> None:
    bench.score = lambda facts: 0.5 + 0.1 * (-1) ** int(facts["patient"][1:]) * (facts["row"] == "dsu")
    for row in ("standard", "dsu"):
        bench.finish(row)
    results = read_results(bench.folder)
    assert answer(results).verdict == (
        f"Against {SEPARATE}, dsu (FTN+STN): open on 4 of 4 data sets (ACDC, RandBias, RandGhost, M&Ms)."
    )
    assert ask(results).startswith(f"Does dsu hold better than {SEPARATE} on scans")
