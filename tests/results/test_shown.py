"""A table as text."""

from __future__ import annotations

from coopseg.results.shown import Heading, Line, Shown, Table, as_markdown, as_text


def test_the_best_is_marked() -> None:
    best, plain, none = Shown("0.800", "± 0.013", "best"), Shown("0.750"), Shown("n/a", mark="empty")
    lines = (Line(("standard", "FTN"), (plain, none)), Line(("a|b", "FTN+STN"), (best, Shown("0.500"))))
    table = Table(("method", "head"), (Heading("home"), Heading("average corrupted")), lines)
    assert as_text(table).splitlines() == [
        "method    head     home            average corrupted",
        "standard  FTN      0.750           n/a",
        "a|b       FTN+STN  0.800 ± 0.013*  0.500",
    ]
    assert as_markdown(table).splitlines() == [
        "| method | head | home | average corrupted |",
        "| --- | --- | --- | --- |",
        "| standard | FTN | 0.750 | n/a |",
        r"| a\|b | FTN+STN | **0.800 ± 0.013** | 0.500 |",
    ]
