"""The two files: written together or not at all, the JSON with every number of the page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest
from made_up_bench import Bench

import coopseg
from coopseg.errors import CoopsegError
from coopseg.report.run import is_benchmark, write_benchmark_report

Maker = Callable[..., Path]
SEPARATE = "standard (separate STN)"


def test_writes_page_and_content(
    make_run: Maker, make_evaluation: Maker, keep_hard_examples: Callable[[Path], None], tmp_path: Path
) -> None:
    run, apart = make_run("a"), tmp_path / "apart"
    make_evaluation(run, apart)
    keep_hard_examples(run)
    page = coopseg.write_report(f"mine={run}", tmp_path / "out", evaluations=[apart])
    assert page == tmp_path / "out" / "report.html"
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
    content = json.loads((page.parent / "report.json").read_text(), parse_constant=pytest.fail)
    text = page.read_text()
    with (apart / "cases.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["head"] == "FTN+STN"]
    results = content["results"]
    for column in results["columns"]:
        wanted = {"column": column["name"], "head": "FTN+STN", "class": "mean", "group": "all"}
        (cell,) = [c for c in results["cells"] if all(c[key] == value for key, value in wanted.items())]
        values = [float(row["dice"]) for row in rows if row["dataset"] in column["datasets"]]
        assert cell["mean"] == pytest.approx(mean(values))  # every patient has as many volumes
        assert f">{cell['mean']:.3f}" in text
    for cell in results["cells"]:
        if cell["state"] == "value" and cell["class"] == "mean" and cell["group"] == "all":
            assert all(f">{cell[key]:.{digits}f}" in text for key, digits in (("mean", 3), ("hd95", 1)))
    for line in content["worst"][0]["lines"]:
        assert f">{line['cells'][0]['text']}</td>" in text
    pictures = [shown["image"] for shown in content["slices"]]
    pictures += [
        p for s in content["hard_examples"][0]["samples"] for row in s["rows"] for p in row["pictures"]
    ]
    assert len(pictures) == 4 + 2 * 4 * 3
    assert all(picture in text for picture in pictures)


def test_nothing_is_left_after_an_error(make_run: Maker, make_evaluation: Maker, tmp_path: Path) -> None:
    run, other = make_run("a"), make_run("b")
    stray = make_evaluation(other, tmp_path / "stray")
    out = tmp_path / "new" / "out"
    with pytest.raises(CoopsegError, match="not the last weights of a run given here"):
        coopseg.write_report([run], out, evaluations=[stray])
    assert not out.parent.exists()
    with pytest.raises(CoopsegError, match="not an empty folder"):
        coopseg.write_report([run], stray)
    assert not (stray / "report.html").exists()


def test_scan_statistics_of_an_evaluation_are_shown(
    make_run: Maker, make_evaluation: Maker, tmp_path: Path
) -> None:
    for name, k, shown in (("a", None, "off"), ("b", 6.5, "K = 6.5")):
        run = make_run(name)
        record = make_evaluation(run) / "evaluation.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"scan_statistics": k}))
        page = coopseg.write_report([run], tmp_path / f"out-{name}")
        assert f"STN applied 1×, scan statistics {shown}, spacing true" in page.read_text()


def test_the_files_of_a_benchmark(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench")
    bench.ask(["standard", "dsu"])
    assert is_benchmark(bench.folder)
    assert not is_benchmark(tmp_path)
    assert write_benchmark_report(bench.folder) == bench.folder / "report" / "report.html"
    bench.finish("standard")
    page = write_benchmark_report(bench.folder)  # again, as jobs finish
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
    content = json.loads((page.parent / "report.json").read_text(), parse_constant=pytest.fail)
    assert content["results"]["jobs"]["finished"] == 1
    (line,) = [line for line in content["summary"].splitlines() if line.startswith(f"{SEPARATE}  FTN ")]
    cell = next(c for c in content["results"]["cells"] if c["column"] == "M&Ms" and c["class"] == "mean")
    assert f"{cell['mean']:.3f}" in line
    with pytest.raises(CoopsegError, match="not an empty folder"):
        write_benchmark_report(bench.folder, bench.folder)
    out = tmp_path / "new" / "out"
    with pytest.raises(CoopsegError, match=r"benchmark\.json: not found"):
        write_benchmark_report(tmp_path, out)
    assert not out.parent.exists()
    assert write_benchmark_report(bench.folder, out) == out / "report.html"
