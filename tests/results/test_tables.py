"""The best of a column, captions, and numbers as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coopseg.results.columns import Column
from coopseg.results.patients import ALL, MEAN
from coopseg.results.scores import Cell, Curve
from coopseg.results.shown import p_text, signed
from coopseg.results.statistics import CLEAR_P, FEWEST
from coopseg.results.study import Jobs, Row
from coopseg.results.table import Cost, Results
from coopseg.results.tables import (
    best_of,
    cost_table,
    draws_text,
    few_note,
    find_scores,
    nothing_compared,
    nought_text,
    places,
    score_table,
    spikes_note,
)


def cell(row: str, value: float | None, *, missing: float = 0.0, draws: str = "A", patients: int = 6) -> Cell:
    """A cell with the same number as Dice and as HD95; None where the row has no such head."""
    name = ("steps", row, "FTN", "ACDC", MEAN, ALL, "")
    if value is None:
        return Cell(*name, "n/a")
    return Cell(
        *name, "value", mean=value, n=patients, hd95=value, distance_missing=missing,
        draws=dict.fromkeys(draws, value),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("column", "measure", "best"),
    [
        ([0.8, 0.9, 0.7], "dice", {1}),
        ([0.8, 0.9, 0.7], "hd95", {2}),
        ([0.9001, 0.9004, 0.7], "dice", {0, 1}),  # equal as shown
        ([0.9004, 0.9006, 0.7], "dice", {1}),
        ([None, 0.2, 0.1], "dice", {1}),
        ([None, 0.2, None], "dice", set()),  # nothing to compare with
        ([None, None, None], "dice", set()),
    ],
)
def test_the_best_of_a_column(column: list[float | None], measure: str, best: set[int]) -> None:
    assert best_of([cell(str(row), value) for row, value in enumerate(column)], measure) == best


def test_heads_of_one_row_do_not_compete() -> None:
    assert best_of([cell("a", 0.8), cell("a", 0.9)], "dice") == set()


def test_only_rows_with_the_same_draws_compete() -> None:
    cells = [cell("a", 0.8, draws="AB"), cell("b", 0.7, draws="AB"), cell("c", 0.9), cell("d", 0.85)]
    assert best_of(cells, "dice") == {0, 2}


def test_of_too_few_patients_nothing_is_the_best() -> None:
    """Of so few that no pattern of signs is rare enough: the p of the sign flip stays at 0.05 or above."""
    assert 2 / 2**FEWEST < CLEAR_P <= 2 / 2 ** (FEWEST - 1)
    for patients, best in ((1, set()), (FEWEST - 1, set()), (FEWEST, {1})):
        assert best_of([cell(row, 0.1, patients=patients) for row in "a"], "dice") == set()
        cells = [cell(row, value, patients=patients) for row, value in (("a", 0.1), ("b", 0.9))]
        assert best_of(cells, "dice") == best
    few, many = (Column(name, "intra", (name,), n, n) for name, n in (("ACDC", 5), ("M&Ms", 6)))
    assert few_note(bare(columns=(many,))) == ""
    assert few_note(bare(columns=(few, many))) == ("Too few patients to mark a best (fewer than 6): ACDC.")


def test_a_missing_distance_never_wins() -> None:
    """The last row's HD95 is the least, over what it did not miss: nobody is marked."""
    cells = [cell("a", 3.0), cell("b", 4.0), cell("c", 2.0, missing=0.2)]
    assert best_of(cells, "hd95") == set()
    assert best_of(cells, "dice") == {1}


def test_distances_are_better_when_smaller(results: Results) -> None:
    lines, table = find_scores(results, places(results)), score_table(results, measure="hd95")
    for place in range(len(results.columns)):
        cells = [line.cells[place] for line in lines]
        for line, own in zip(table.lines, cells, strict=True):
            if line.cells[place].mark == "best":
                assert own
                same = [c for c in cells if c and c.has_value and [*c.draws] == [*own.draws]]
                assert round(own.hd95 or 0, 1) == min(round(c.hd95 or 0, 1) for c in same)
                assert own.distance_missing == pytest.approx(min(c.distance_missing or 0 for c in same))
    assert any(shown.mark == "best" for line in table.lines for shown in line.cells)


def test_what_a_line_rests_on() -> None:
    value = replace(cell("a", 0.5, draws="AB"), jobs=Jobs(2, 1, 3))
    assert draws_text(value) == "A B (2 of 3)"
    assert draws_text(replace(value, jobs=Jobs(2, 0, 2))) == "A B"
    seeds = replace(value, draws={"-": 0.5}, seeds={"0": 0.4, "1": 0.6}, jobs=Jobs(2, 0, 2))
    assert draws_text(seeds) == "2 seeds"
    assert draws_text(cell("a", None)) == "–"


def bare(**parts: object) -> Results:
    """Results of two rows, with nothing in them but these parts."""
    rows = tuple(Row(name, f"title of {name}", ("FTN",), {}) for name in ("a", "b"))
    empty = Results(("a", "b"), rows, (), (), ("steps",), (), (), (), ())
    return replace(empty, **parts)  # type: ignore[arg-type]


def test_what_severity_nought_is() -> None:
    copies = "0 is the copies without artefact, in the grid of the others"
    clean = "0 is the clean set, neither cropped nor rescaled"
    asked, other = (Curve(row, "K", "FTN", (), measured_nought=row == "a") for row in "ab")
    assert nought_text(bare(severity=(asked,))) == copies
    assert nought_text(bare(severity=(other,))) == clean
    assert nought_text(bare(severity=(asked, other))) == f"{copies}; for title of b {clean}"


def test_the_rest_names_what_it_speaks_of() -> None:
    assert spikes_note(bare(columns=(Column("average of all", "average", ()),))) == ""
    assert "RandSpike" in spikes_note(bare(columns=(Column("average without spikes", "average", ()),)))
    assert "title of a or title of b" in nothing_compared(bare())
    units = [cost_table(bare(cost=(Cost("a", against),))).headings[2].text for against in ("b", None)]
    assert units == ["× title of b", "× baseline"]


def test_small_texts() -> None:
    assert [signed(value) for value in (0.0214, -0.1, 0.0, -0.0001)] == ["+0.021", "−0.100", "0.000", "0.000"]
    assert [p_text(value) for value in (0.0004, 0.0312, 1.0)] == ["< 0.001", "0.031", "1.000"]
