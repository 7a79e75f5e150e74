"""A table as text."""

from __future__ import annotations

import csv
import html
import io

import pytest

from coopseg.results.shown import Heading, Line, Shown, Table, as_csv, as_markdown, as_text, harmless


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


@pytest.mark.parametrize(
    "name", ['=HYPERLINK("http://x","y")', "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\tx"]
)
def test_a_spreadsheet_computes_no_name(name: str) -> None:
    """Patients and sites are called as others have called them."""
    text = as_csv([{"case": name, "dice": -0.5}, {"case": "p-1=2", "dice": None}], ["case", "dice"])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["case", "dice"],
        [f"'{name}", "-0.5"],
        ["p-1=2", ""],
    ]


def test_markdown_holds_no_markup_of_others() -> None:
    for name in (
        "<img src=x onerror=alert(1)>",
        "</td>",
        "<!-- x",
        "![x](http://y)",
        "[x](javascript:1)",
        "<?x",
    ):
        shown = as_markdown(Table(("case",), (), (Line((name,), ()),))).splitlines()[-1]
        assert not {"<i", "</", "<!", "<?", "]("} & {shown[at : at + 2] for at in range(len(shown))}
        assert html.unescape(shown) == f"| {name} |"
        assert harmless(shown) == shown
    assert harmless("p < 0.001, 3 <5 [0.1, 0.2]") == "p < 0.001, 3 <5 [0.1, 0.2]"
