"""The files of table/: the same numbers in each, safe with any name, replaced whole."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_up_bench import Bench

from coopseg.benchmark.collect import read_results, write_table
from coopseg.config.methods import title_of
from coopseg.results.files import NAMES, markdown
from coopseg.results.shown import p_text, signed

Line = dict[str, str]
SEPARATE, JOINT = "standard (separate STN)", "standard (published: joint STN)"


@pytest.fixture(scope="module")
def table(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """table/ of a copy of the large benchmark."""
    copy = tmp_path_factory.mktemp("copy") / "bench"
    shutil.copytree(large, copy)
    return write_table(copy)


def markdown_table(text: str, title: str) -> list[Line]:
    """The lines of the first table below a heading, by its own column titles."""
    part = re.split(rf"^## {re.escape(title)}$", text, flags=re.MULTILINE)[1]
    found = re.search(r"^\|.*?(?=\n\n|\Z)", part, flags=re.MULTILINE | re.DOTALL)
    assert found
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in found[0].splitlines()]
    assert len({len(row) for row in rows if "---" not in row[0]}) == 1
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_every_file_is_there_and_nothing_else(table: Path) -> None:
    names = {str(path.relative_to(table)) for path in table.rglob("*") if path.is_file()}
    drawn = ("dice", "change", "cost", "severity")
    figures = {f"figures/{name}.{kind}" for name in drawn for kind in ("svg", "pdf")}
    tables = {"results.json", "results.csv", "differences.csv", "results.md", "results.tex"}
    assert names == tables | figures


def test_csv_has_every_cell_of_the_json_once(table: Path) -> None:
    results = json.loads((table / "results.json").read_text(), parse_constant=pytest.fail)
    with (table / "results.csv").open(newline="") as file:
        lines = {tuple(line[key] for key in NAMES): line for line in csv.DictReader(file)}
    assert len(lines) == len(results["cells"])
    for cell in results["cells"]:
        line = lines[tuple(cell[key] for key in NAMES)]
        assert line["state"] == cell["state"]
        if cell["state"] == "value":
            assert float(line["mean"]) == cell["mean"]
            assert line["draws"] == " ".join(cell["draws"])
            assert float(line["dice_below_0.5"]) == cell["failures"]["0.5"]


def test_csv_has_every_difference_of_the_json_once(table: Path) -> None:
    results = json.loads((table / "results.json").read_text())
    keys = ("budget", "against", "row", "head", "column", "class")
    with (table / "differences.csv").open(newline="") as file:
        lines = {tuple(line[key] for key in keys): line for line in csv.DictReader(file)}
    assert len(lines) == len(results["differences"])
    for entry in results["differences"]:
        line = lines[tuple(entry[key] for key in keys)]
        assert float(line["mean"]) == entry["mean"]
        assert [float(line[f"interval_{end}"]) for end in ("low", "high")] == entry["interval"]
        assert line["p_holm"] == ("" if entry["p_holm"] is None else str(entry["p_holm"]))
        assert line["draws"] == " ".join(entry["draws"])


def test_markdown_has_the_numbers_of_the_json(table: Path) -> None:
    results = json.loads((table / "results.json").read_text())
    text = (table / "results.md").read_text()
    main = {(line["method"], line["head"]): line for line in markdown_table(text, "Dice")}
    for cell in results["cells"]:
        if (cell["budget"], cell["class"], cell["group"]) == ("steps", "mean", "all"):
            shown = main[title_of(cell["row"]), cell["head"]][cell["column"]].strip("*")
            assert shown.startswith(f"{cell['mean']:.3f}" if cell["state"] == "value" else cell["state"])
    assert main["post-dae", "FTN"]["draws"] == "A B (2 of 3)"
    assert main[SEPARATE, "FTN"]["draws"] == "A B C"
    assert " ± " in main[SEPARATE, "FTN"]["ACDC"]
    assert " ± " not in main["randconv", "FTN"]["ACDC"]
    for against, title in {"standard": SEPARATE, "cooperative-no-latent": JOINT}.items():
        lines = markdown_table(text, f"Difference to {title}")
        compared = {(line["method"], line["head"]): line for line in lines}
        changes = markdown_table(text, f"Change against {title}")
        assert {(line["method"], line["head"]) for line in changes} == set(compared)
        assert title not in {line["method"] for line in lines}
        for entry in results["differences"]:
            if (entry["budget"], entry["class"], entry["against"]) == ("steps", "mean", against):
                shown = compared[title_of(entry["row"]), entry["head"]][entry["column"]]
                assert shown.startswith(signed(entry["mean"]))
                few = 2 / 2 ** entry["n"] * (entry["family"] or 1) >= 0.05  # no p can be below
                p = "too few" if few and not entry["clear"] else f"p {p_text(entry['p_holm'] or 0)}"
                assert shown.endswith("]" if entry["p"] is None else p)
        assert markdown_table(text, f"Difference to {title} at equal wall-clock time")
    assert f"× {JOINT}" in markdown_table(text, "Cost")[0]
    for title in ("Dice of RV", "By phase", "By vendor", "By vendor/centre", "Failures", "HD95, mm", "Cost",
                  "Dice at equal wall-clock time", "Severity"):  # fmt: skip
        assert markdown_table(text, title), title
    assert "- dsu-A-0: OutOfMemoryError: CUDA out of memory" in text
    assert "denoising autoencoder" in text


def test_the_best_is_sought_among_rows_with_equal_draws(bench: Bench) -> None:
    level = {"standard": 0.5, "cooperative": 0.7, "randconv": 0.9, "dsu": 0.8, "rsc": 0.99}
    bench.score = lambda facts: level[facts["row"]] - 0.1 * (facts["head"] == "FTN")
    bench.datasets = {"ACDC": "intra"}
    for row, draws in {
        "standard": "AB",
        "cooperative": "AB",
        "randconv": "A",
        "dsu": "A",
        "rsc": "C",
    }.items():
        for draw in draws:
            bench.finish(row, draw)
    lines = markdown_table(markdown(read_results(bench.folder)), "Dice")
    bold = [(line["method"], line["head"]) for line in lines if line["ACDC"].startswith("**")]
    assert sorted(bold) == [("cooperative", "FTN+STN"), ("randconv", "FTN+STN")]


def test_tex_is_escaped_and_balanced(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench")
    bench.datasets = {"A_1 & 100%": "intra", "#$^~{}\\": "corrupted"}
    for row in ("standard", "cooperative-no-latent", "my_row"):
        bench.finish(row)
    write_table(bench.folder)
    text = (bench.folder / "table" / "results.tex").read_text()
    assert r"A\_1 \& 100\%" in text
    assert r"\#\$\textasciicircum{}\textasciitilde{}\{\}\textbackslash{}" in text
    assert r"my\_row & FTN & A" in text
    for label, title in {"cooperative-no-latent": JOINT, "standard": SEPARATE}.items():
        (found,) = [part for part in text.split("\n\n") if rf"\label{{tab:differences-{label}}}" in part]
        assert rf"\caption{{Dice minus that of {title}:" in found
        assert f"{title} & FTN" not in found
        assert r"my\_row & FTN & A" in found
    plain = re.sub(r"\\[\\{}_&%#$]", "", text.split("\n", 1)[1])
    assert plain.count("{") == plain.count("}")
    widths = {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\") and "{%" not in line}
    assert widths == {5}  # row, head, draws, two data sets and their average


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_tex_compiles(table: Path, tmp_path: Path) -> None:
    document = (
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{results}\end{document}"
    )
    (tmp_path / "paper.tex").write_text(document)
    shutil.copy(table / "results.tex", tmp_path)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_written_again_as_jobs_finish(bench: Bench) -> None:
    bench.ask(["standard", "dsu"])
    page = write_table(bench.folder) / "results.md"
    assert "0 of 2 jobs have finished" in page.read_text()
    assert (page.parent / "results.tex").read_text() == ""
    bench.finish("standard")
    write_table(bench.folder)
    first = {path.name: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    assert "1 of 2 jobs have finished" in page.read_text()
    write_table(bench.folder)
    assert {path.name: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()} == first


def test_names_do_not_break_the_markdown(bench: Bench) -> None:
    bench.datasets = {"a|b\nc": "intra"}
    bench.finish("standard")
    (line, _) = markdown_table(markdown(read_results(bench.folder)), "Dice")
    assert r"a\|b c" in line
