"""The page as a document: well formed, alone, safe with any name, and honest about what is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from coopseg.report.collect import collect
from coopseg.report.page import PAGE, STYLE, TEMPLATES, number_text, render, setting_text
from coopseg.report.sources import read_runs

Maker = Callable[..., Path]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Document(HTMLParser):
    """Collects text and attributes; fails where an element is closed that is not open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page_of(*folders: Any) -> str:
    return render(collect(read_runs(list(folders))))


@pytest.fixture
def whole(make_run: Maker, make_evaluation: Maker, keep_hard_examples: Callable[[Path], None]) -> str:
    """A page with everything on it."""
    runs = [make_run("a"), make_run("b", seed=1), make_run("c", method="standard")]
    for run in runs:
        make_evaluation(run)
    keep_hard_examples(runs[0])
    return page_of(*runs)


def test_everything_is_there_in_order(whole: str) -> None:
    words = Document(whole).words
    order = (
        "Does cooperative hold better than standard on scans unlike those it was trained on?",
        "Scores", "corrupted", "Every case", "One slice under every corruption", "Training", "Learning rate",
        "Hard examples", "midway", "How much each mask scheme raised the loss", "Worst and slowest cases",
        "Slowest to predict", "Settings that differ", "losses.separate", "All settings", "1:01:15",
        "FTN 0.500 FTN+STN 0.200 0.500, 40 0.400, 20",
        "RV: 3 pixels touch the edge", "Versions", "2.13.0, 2.13.1 (runs differ)",
        "coopseg train --out a", "Research software, not a medical device.",
    )  # fmt: skip
    place = 0
    for text in order:
        assert text in words[place:], text
        place = words.index(text, place)


def test_nothing_is_loaded_from_elsewhere(whole: str) -> None:
    for tag, name, value in Document(whole).attributes:
        if name in ("src", "href", "data", "srcset", "poster", "xlink:href"):
            anchor = tag == "a" and re.match("#|https://doi.org/", value)
            assert anchor or value.startswith("data:image/png;base64,"), (tag, value)
    for forbidden in ("<script", "@import", "url(http", "<link", "<iframe"):
        assert forbidden not in whole


def test_pictures_have_words(whole: str) -> None:
    attributes = Document(whole).attributes
    assert all(value for tag, name, value in attributes if (tag, name) == ("img", "alt"))
    count = sum(name == "alt" for tag, name, _ in attributes if tag == "img")
    assert count == sum(name == "src" for tag, name, _ in attributes if tag == "img") > 0


def test_names_are_only_names(make_run: Maker, make_evaluation: Maker) -> None:
    name = '<b>x&"'
    run = make_run("a")
    make_evaluation(run, datasets={"<i>D</i>": "intra", 'R"&<script>': "corrupted"})
    page = page_of(f"{name}={run}")
    document = Document(page)
    assert "<b>x" not in page
    assert "<i>D" not in page
    assert "<script" not in page
    assert f"How well does {name} hold" in document.words
    assert "<i>D</i>" in document.words
    assert not [tag for tag, attribute, _ in document.attributes if attribute == 'x&"']


def test_nothing_evaluated_nothing_logged(make_run: Maker) -> None:
    words = Document(page_of(make_run("a", log=False))).words
    for text in (
        "Nothing has been evaluated yet.",
        "coopseg evaluate --model RUN",
        "No case has been evaluated.",
        "There are no stored slices",
        "hold no log.jsonl",
        "None are stored",
        "nothing was raised",
        "None: there is one run",
    ):
        assert text in words, text


def test_gaps_in_the_table(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", **{"losses.stn": False})
    make_evaluation(first)
    make_evaluation(second, heads=["FTN"], datasets={"ACDC": "intra"}, pictures=False)
    words = Document(page_of(first, f"alone={second}")).words
    assert "not evaluated" in words
    assert "n/a" in words
    make_evaluation(
        second, second / "more", heads=["FTN"], patients=["p1"], datasets={"RandBias": "corrupted"}
    )
    words = Document(page_of(first, second)).words
    assert "RandBias: not every run was evaluated on the same patients" in words
    assert "differ in more than the seed: losses.stn" in words


def test_the_templates_are_in_the_package() -> None:
    folder = resources.files("coopseg.report") / TEMPLATES
    names = {entry.name for entry in folder.iterdir()}
    assert {PAGE, STYLE, "macros.html"} <= names
    assert "prefers-color-scheme: dark" in (folder / STYLE).read_text()


def test_small_texts() -> None:
    assert [setting_text(value) for value in ("auto", None, True, [128, 128], 0.5)] == [
        "auto", "null", "true", "[128, 128]", "0.5",
    ]  # fmt: skip
    assert (number_text(None), number_text(0.12345), number_text(12.34, 1)) == ("–", "0.123", "12.3")
