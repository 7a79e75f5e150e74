"""The page: well formed, alone, safe with any name, and honest about what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up_bench import ERROR, Bench, large_bench

from coopseg.report.run import contents, report_of_benchmark, report_of_runs
from coopseg.report.sections import Report, render
from coopseg.report.sources import read_runs
from coopseg.results.shown import signed

Maker = Callable[..., Path]
SEPARATE, JOINT = "standard (separate STN)", "standard (published: joint STN)"
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
    """The page on these runs."""
    return render(report_of_runs(read_runs(list(folders))))


@pytest.fixture
def runs_page(make_run: Maker, make_evaluation: Maker, keep_hard_examples: Callable[[Path], None]) -> str:
    """A page with everything on it."""
    runs = [make_run("a"), make_run("b", seed=1), make_run("c", method="standard")]
    for run in runs:
        make_evaluation(run)
    keep_hard_examples(runs[0])
    return page_of(*runs)


def test_everything_of_runs_is_there_in_order(runs_page: str) -> None:
    words = Document(runs_page).words
    order = (
        "Does cooperative hold better than standard on scans unlike those it was trained on?",
        "Against standard, cooperative (FTN+STN):", "Method minus standard", "Dice", "corrupted", "Failures",
        "Difference to the baseline", "Against standard, FTN+STN",
        "One slice under every corruption", "Dice of RV", "By phase", "HD95", "Every case", "Training",
        "Learning rate", "Hard examples", "midway", "How much each mask scheme raised the loss",
        "Worst and slowest cases", "Slowest to predict", "Settings that differ", "losses.separate",
        "All settings", "Runs", "1:01:15", "FTN 0.500; FTN+STN 0.200", "0.500, 40; 0.400, 20",
        "RV: 3 pixels touch the edge", "Versions", "2.13.0, 2.13.1 (they differ)",
        "coopseg train --out a", "Research software, not a medical device.",
    )  # fmt: skip
    place = 0
    for text in order:
        assert text in words[place:], text
        place = words.index(text, place)


def test_what_robustness_costs_is_asked_of_two_methods_or_more(
    make_run: Maker, make_evaluation: Maker
) -> None:
    """One method alone would be a figure of one point."""
    runs = [make_run("a"), make_run("b", method="standard"), make_run("c", seed=1)]
    for run in runs:
        make_evaluation(run)
    assert "What robustness costs" not in page_of(*runs[:2])
    assert "What robustness costs" in page_of(*runs[:2], f"mine={runs[2]}")


def test_nothing_on_the_page_of_runs_is_loaded_from_elsewhere(runs_page: str) -> None:
    for tag, name, value in Document(runs_page).attributes:
        if name in ("src", "href", "data", "srcset", "poster", "xlink:href"):
            anchor = tag == "a" and re.match("#|https://doi.org/", value)
            data = re.match("data:image/(png|svg[+]xml);base64,", value)
            assert anchor or data or (tag == "use" and value.startswith("#slice")), (tag, value)
    for forbidden in ("<script", "@import", "url(http", "<link", "<iframe"):
        assert forbidden not in runs_page


def test_pictures_have_words(runs_page: str) -> None:
    attributes = Document(runs_page).attributes
    assert all(value for tag, name, value in attributes if (tag, name) == ("img", "alt"))
    count = sum(name == "alt" for tag, name, _ in attributes if tag == "img")
    assert count == sum(name == "src" for tag, name, _ in attributes if tag == "img") > 0


def test_names_of_runs_are_only_names(make_run: Maker, make_evaluation: Maker) -> None:
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
        "Settings that differ: none, there is one run",
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


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What the report of a large benchmark shows."""
    return report_of_benchmark(large_bench(tmp_path_factory.mktemp("large") / "bench").folder)


@pytest.fixture(scope="module")
def page(content: Report) -> str:
    """Its page."""
    return render(content)


def test_everything_is_there_in_order(page: str) -> None:
    words = Document(page).words
    order = (
        f"Which of 8 other methods holds better than {JOINT} or {SEPARATE}", f"Against {JOINT}, randconv",
        "16 of 23 jobs have finished (2 failed)", "At equal wall-clock time", f"Method minus {JOINT}",
        "Dice", "averages", "out of domain", "A B (2 of 3)", "waiting", "failed", "n/a", "Failures",
        "Difference to the baseline", "Holm", f"Against {JOINT}, FTN+STN",
        f"Against {SEPARATE}, FTN+STN", "What robustness costs", f"Against {JOINT}",
        f"Against {SEPARATE}", "Cost", f"× {JOINT}",
        "failed: CUDA", "At equal wall-clock time", "those of cooperative", f"Against {JOINT}, FTN+STN",
        f"Against {SEPARATE}, FTN+STN", "Severity", "0 is the clean set", "One slice under every corruption",
        "truth", "nnU-Net", "Dice of RV", "By phase", "By vendor", "HD95",
        "Failed and waiting jobs", "dsu-A-0: OutOfMemoryError", ERROR, "Waiting: mixstyle-A-0",
        "a denoising autoencoder trained by itself", "acdc-dev", "coopseg benchmark --data /data/acdc",
        "Versions", "2.13.0", "Research software, not a medical device.",
    )  # fmt: skip
    place = 0
    for text in order:
        assert text in words[place:], text
        place = words.index(text, place)


def test_the_page_has_the_numbers_of_the_table(content: Report, page: str) -> None:
    words = Document(page).words
    averages = [column.name for column in content.results.columns if column.average]
    for cell in content.results.cells:
        whole = cell.group == "all" and (cell.budget == "steps" or cell.class_ == "mean")
        grouped = cell.class_ == "mean" and cell.budget == "steps" and cell.column not in averages
        if cell.has_value and (whole or grouped):
            assert f"{cell.mean:.3f}" in words
    for entry in content.results.differences:
        if entry.class_ == "mean":
            assert entry.interval
            low, high = entry.interval
            assert f"[{signed(low)}, {signed(high)}]" in words
    assert json.loads(json.dumps(contents(content), allow_nan=False))["results"]["rows"]


def test_a_picture_a_row_of_the_same_slice(content: Report, page: str) -> None:
    ours, other = [("standard", "A"), ("cooperative", "A")], [("nnU-Net", "")]
    assert {shown.dataset: [(p.row, p.note) for p in shown.panels] for shown in content.slices} == {
        "ACDC": [*ours, *other], "RandBias": ours, "RandGhost": ours, "M&Ms": [*ours, *other],
        "no artefact (scan grid)": other, "RandBias (scan grid)": other, "RandGhost (scan grid)": other,
    }  # fmt: skip
    for shown in content.slices:
        assert page.count(shown.image) >= 1
        assert all(path.path in page for panel in shown.panels for path in panel.prediction)
    first = content.slices[0].panels[0]
    case = content.slices[0].case
    assert content.collected
    metrics = content.collected.folder / "jobs/standard-A-0/evaluation/metrics.json"
    rows = [r for r in json.loads(metrics.read_text())["rows"] if (r["case"], r["head"]) == (case, "FTN+STN")]
    own = [r["dice"] for r in rows if r["dataset"] == "ACDC"]
    assert first.dice == pytest.approx(sum(own) / len(own))


def test_a_row_whose_pictures_are_gone_has_no_panel(bench: Bench) -> None:
    for row in ("standard", "dsu"):
        folder = bench.finish(row, pictures=True)
    (folder / "evaluation" / "slices.npz").unlink()
    slices = report_of_benchmark(bench.folder).slices
    assert {panel.row for shown in slices for panel in shown.panels} == {"standard"}


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    attributes = Document(page).attributes
    ids = [value for _, name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for tag, name, value in attributes:
        if name in ("src", "href", "data", "srcset", "xlink:href"):
            inside = value.startswith("#") and value[1:] in ids
            data = re.match("data:image/(png|svg[+]xml);base64,", value)
            assert inside or data or (tag == "a" and value.startswith("https://doi.org/")), (tag, value)
    for forbidden in ("<script", "@import", "url(http", "<link"):
        assert forbidden not in page
    assert all(value for tag, name, value in attributes if (tag, name) == ("img", "alt"))


def test_names_are_only_names(bench: Bench) -> None:
    bench.datasets = {"<i>D</i>": "intra", 'R"&<script>': "corrupted"}
    for row in ("standard", '<b>x&"'):
        bench.finish(row.replace("/", "_"), pictures=True)
    text = render(report_of_benchmark(bench.folder))
    assert "<i>D" not in text
    assert "<b>x" not in text
    assert "<script" not in text
    assert "<i>D</i>" in Document(text).words


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty benchmark folder."""
    return Bench(tmp_path / "bench")


def test_before_anything_has_finished(bench: Bench) -> None:
    bench.ask(["standard", "dsu"])
    content = report_of_benchmark(bench.folder)
    words = Document(render(content)).words
    for text in (
        "No job has finished yet.", f"no other method was tested beside {JOINT} or {SEPARATE}",
        "There are no stored slices", "Waiting: standard-A-0, dsu-A-0.",
    ):  # fmt: skip
        assert text in words, text
    assert content.summary.splitlines() == [content.question, "No job has finished yet."]


def test_without_standard_nothing_is_compared(bench: Bench) -> None:
    bench.finish("dsu")
    content = report_of_benchmark(bench.folder)
    assert "Nothing to compare" in content.answer.verdict
    assert Document(render(content)).words
