"""The report of a benchmark: a page that stands alone, says what the table bears, and hides no failure."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up_bench import ERROR, Bench, large_bench

from coopseg.benchmark.table import read_table
from coopseg.benchmark.view import signed
from coopseg.errors import CoopsegError
from coopseg.report.benchmark import collect_benchmark, render_benchmark
from coopseg.report.benchmark_answer import answer, ask
from coopseg.report.run import is_benchmark, write_benchmark_report
from coopseg.report.text import summary

SEPARATE, JOINT = "standard (separate STN)", "standard (published: joint STN)"
VOID = {"meta", "img", "br"}


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
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the report of a large benchmark shows."""
    return collect_benchmark(large_bench(tmp_path_factory.mktemp("large") / "bench").folder)


@pytest.fixture(scope="module")
def page(content: dict[str, Any]) -> str:
    """Its page."""
    return render_benchmark(content)


def test_everything_is_there_in_order(page: str) -> None:
    words = Document(page).words
    order = (
        f"Which of 8 methods holds better than {JOINT} or {SEPARATE}",
        "16 of 23 jobs have finished (2 failed)",
        "Dice", "averages", "out of domain", "A B (2 of 3)", "waiting", "failed", "n/a", "Failures",
        "Difference to standard training", "Holm", f"Against {JOINT}, FTN+STN",
        f"Against {SEPARATE}, FTN+STN", "What robustness costs", f"Against {JOINT}",
        f"Against {SEPARATE}", "Cost", f"× {JOINT}",
        "probe failed", "At equal wall-clock time", "those of cooperative", f"Against {JOINT}, FTN+STN",
        f"Against {SEPARATE}, FTN+STN", "Severity", "0 is the clean set", "One slice under every corruption",
        "truth", "nnU-Net", "Dice of RV", "Dice by phase", "Dice by vendor", "HD95",
        "Failed and waiting jobs", "dsu-A-0: OutOfMemoryError", ERROR, "Waiting: mixstyle-A-0",
        "a denoising autoencoder trained by itself", "coopseg benchmark --data /data/acdc", "acdc-dev",
        "Versions", "2.13.0", "Research software, not a medical device.",
    )  # fmt: skip
    place = 0
    for text in order:
        assert text in words[place:], text
        place = words.index(text, place)


def test_the_page_has_the_numbers_of_the_table(content: dict[str, Any], page: str) -> None:
    words = Document(page).words
    averages = [column["name"] for column in content["results"]["columns"] if column["average"]]
    for cell in content["results"]["cells"]:
        whole = cell["group"] == "all" and (cell["budget"] == "steps" or cell["class"] == "mean")
        grouped = cell["class"] == "mean" and cell["budget"] == "steps" and cell["column"] not in averages
        if cell["state"] == "value" and (whole or grouped):
            assert f"{cell['mean']:.3f}" in words
    for entry in content["results"]["differences"]:
        if entry["class"] == "mean":
            low, high = entry["interval"]
            assert f"[{signed(low)}, {signed(high)}]" in words
    assert json.loads(json.dumps(content, allow_nan=False))["results"]["rows"]


def test_a_picture_a_row_of_the_same_slice(content: dict[str, Any], page: str) -> None:
    assert [shown["dataset"] for shown in content["slices"]] == ["ACDC", "RandBias", "RandGhost", "M&Ms"]
    for shown in content["slices"]:
        assert [(p["row"], p["draw"]) for p in shown["panels"]] == [
            ("standard", "A"), ("cooperative", "A"), ("nnU-Net", ""),
        ]  # fmt: skip
        assert page.count(shown["image"]) >= 1
        assert all(path["path"] in page for panel in shown["panels"] for path in panel["prediction"])
    first = content["slices"][0]["panels"][0]
    case = content["slices"][0]["case"]
    metrics = Path(content["provenance"]["folder"]) / "jobs/standard-A-0/evaluation/metrics.json"
    rows = [r for r in json.loads(metrics.read_text())["rows"] if (r["case"], r["head"]) == (case, "FTN+STN")]
    own = [r["dice"] for r in rows if r["dataset"] == "ACDC"]
    assert first["dice"] == pytest.approx(sum(own) / len(own))


def test_a_row_whose_pictures_are_gone_has_no_panel(bench: Bench) -> None:
    for row in ("standard", "dsu"):
        folder = bench.finish(row, pictures=True)
    (folder / "evaluation" / "slices.npz").unlink()
    slices = collect_benchmark(bench.folder)["slices"]
    assert {panel["row"] for shown in slices for panel in shown["panels"]} == {"standard"}


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
    text = render_benchmark(collect_benchmark(bench.folder))
    assert "<i>D" not in text
    assert "<b>x" not in text
    assert "<script" not in text
    assert "<i>D</i>" in Document(text).words


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty benchmark folder."""
    return Bench(tmp_path / "bench")


def clear_bench(bench: Bench, gains: dict[str, float], *, own: float = 0.0) -> dict[str, Any]:
    """Rows that differ from standard by a known gain out of domain, and by `own` on clean own-site scans."""

    def score(facts: dict[str, Any]) -> float:
        if facts["row"] == "standard":
            return 0.5
        gain = own if facts["dataset"] == "ACDC" else gains[facts["row"]]
        return 0.5 + gain + 0.01 * (int(facts["patient"][1:]) % 3)

    bench.score = score
    for row in ("standard", *gains):
        bench.finish(row)
    return read_table(bench.folder)


def test_the_answer_names_the_best_first(bench: Bench) -> None:
    results = clear_bench(bench, {"cooperative": 0.1, "randconv": 0.2, "dsu": -0.3}, own=-0.05)
    said = answer(results)
    assert said["verdict"].startswith(f"Out of domain, 2 of 3 methods are above {SEPARATE}")
    assert said["verdict"].index("randconv") < said["verdict"].index("cooperative")
    text = " ".join(said["sentences"])
    assert f"Against {SEPARATE}, cooperative (FTN+STN) comes 2 of 3" in text
    assert f"Below {SEPARATE} there: dsu" in text
    assert f"On clean own-site scans, against {SEPARATE}, 3 of 3 lose" in text
    assert "Rows with one training (4) say nothing of chance between trainings." in text


def test_the_answer_speaks_of_both_standard_trainings(bench: Bench) -> None:
    """One gain lies above the one and below the other: each sentence says which it is held against."""
    results = clear_bench(bench, {"cooperative-no-latent": 0.1, "dsu": 0.05})
    said = answer(results)
    assert said["verdict"].startswith(f"Out of domain, none of 2 methods is above {JOINT}")
    text = " ".join(said["sentences"])
    assert f"Below {JOINT} there: {SEPARATE}, FTN+STN, −0.1" in text
    assert f"Out of domain, 2 of 2 methods are above {SEPARATE}" in text
    assert f"{JOINT}, FTN+STN, +0.1" in text
    assert ask(results).startswith(f"Which of 2 methods holds better than {JOINT} or {SEPARATE} on")


def test_the_answer_claims_nothing_that_is_not_clear(bench: Bench) -> None:
    bench.score = lambda facts: 0.5 + 0.1 * (-1) ** int(facts["patient"][1:]) * (facts["row"] == "dsu")
    for row in ("standard", "dsu"):
        bench.finish(row)
    results = read_table(bench.folder)
    assert answer(results)["verdict"] == (
        f"Out of domain, dsu is not above {SEPARATE} by more than chance between patients."
    )
    assert ask(results).startswith(f"Does it hold better than {SEPARATE} on scans")
    assert "none loses" in " ".join(answer(results)["sentences"])


def test_before_anything_has_finished(bench: Bench) -> None:
    bench.ask(["standard", "dsu"])
    content = collect_benchmark(bench.folder)
    words = Document(render_benchmark(content)).words
    for text in (
        "No job has finished yet.", f"on a draw on which {JOINT} or {SEPARATE} was: nothing to compare.",
        "No evaluation stored a slice.", "No job failed.", "Waiting: standard-A-0, dsu-A-0.",
    ):  # fmt: skip
        assert text in words, text
    assert summary(content).splitlines() == [content["question"], "No job has finished yet."]


def test_without_standard_nothing_is_compared(bench: Bench) -> None:
    bench.finish("dsu")
    content = collect_benchmark(bench.folder)
    assert "nothing to compare" in content["answer"]["verdict"]
    assert Document(render_benchmark(content)).words


def test_the_files(bench: Bench, tmp_path: Path) -> None:
    bench.ask(["standard", "dsu"])
    assert is_benchmark(bench.folder)
    assert not is_benchmark(tmp_path)
    assert write_benchmark_report(bench.folder) == bench.folder / "report" / "report.html"
    bench.finish("standard")
    page = write_benchmark_report(bench.folder)  # again, as jobs finish
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
    content = json.loads((page.parent / "report.json").read_text(), parse_constant=pytest.fail)
    assert content["results"]["jobs"]["finished"] == 1
    (line,) = [line for line in summary(content).splitlines() if line.startswith(f"{SEPARATE}  FTN ")]
    cell = next(c for c in content["results"]["cells"] if c["column"] == "M&Ms" and c["class"] == "mean")
    assert f"{cell['mean']:.3f}" in line
    with pytest.raises(CoopsegError, match="not an empty folder"):
        write_benchmark_report(bench.folder, bench.folder)
    out = tmp_path / "new" / "out"
    with pytest.raises(CoopsegError, match=r"benchmark\.json: not found"):
        write_benchmark_report(tmp_path, out)
    assert not out.parent.exists()
    assert write_benchmark_report(bench.folder, out) == out / "report.html"
