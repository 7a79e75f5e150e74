"""`coopseg report` on what the program itself trained, corrupted and evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coopseg.benchmark.grid import Failure, Result
from coopseg.benchmark.probe import Probe


@pytest.fixture(scope="module")
def evaluated(
    coopseg: Callable[..., Any],
    trained: Path,
    phantom: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An evaluation of `trained` on its own domain, one corruption and another site."""
    folder = tmp_path_factory.mktemp("report")
    grid = ("--set=cases.size=[32,32]", "--set=cases.spacing=6")
    data = ("--data", phantom["acdc"], "--split", trained)
    done = coopseg("corrupt", *data, "--out", folder / "sets", "--copies=1", "--workers=1", *grid)
    assert done.exit_code == 0, done.stderr
    words = ("--data", folder / "sets", "--data", phantom["mnms"], "--out", folder / "evaluation")
    done = coopseg("evaluate", "--model", trained, *data, *words)
    assert done.exit_code == 0, done.stderr
    return folder / "evaluation"


def test_report(coopseg: Callable[..., Any], trained: Path, evaluated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = coopseg("report", f"mine={trained}", "--evaluation", evaluated, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("How well does mine hold")
    assert done.stdout.endswith(f"\nopen in a browser: {out / 'report.html'}\n")
    content = json.loads((out / "report.json").read_text())
    columns = [(column["name"], column["domain"]) for column in content["results"]["columns"]]
    assert [column for column in columns if column[1] != "average"] == [
        ("ACDC", "intra"),
        ("RandBias", "corrupted"),
        ("RandGhost", "corrupted"),
        ("RandMotion", "corrupted"),
        ("RandSpike", "corrupted"),
        ("M&Ms", "other"),
    ]
    shown = {entry["dataset"]: entry for entry in content["slices"]}
    assert len({shown[name]["slice"] for name in ("ACDC", "RandBias", "RandSpike")}) == 1
    assert len(content["slowest"]["lines"]) == 10
    assert [sample["rows"][0]["code"] for sample in content["hard_examples"][0]["samples"]] == ["image"] * 2
    assert {curve["kind"] for curve in content["training"]["losses"]} >= {"segmentation", "refined"}
    page = (out / "report.html").read_text()
    assert "How well does mine hold" in page
    assert "M&amp;Ms" in page


def test_every_key_of_a_file_is_in_the_reference(
    coopseg: Callable[..., Any], trained: Path, evaluated: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    """Those of the file itself, and of the objects in its lists; names of heads and terms are told apart."""
    page = (Path(__file__).parents[2] / "docs/reference/files.md").read_text()
    named = {word for code in re.findall("`([^`]+)`", page) for word in re.findall(r"[\w.]+", code)}
    scan, maps = phantom["acdc"] / "patientP001", tmp_path / "maps"
    assert coopseg("predict", "--model", trained, scan, "--device=cpu", "--out", maps).exit_code == 0
    assert coopseg("report", trained, "--evaluation", evaluated, "--out", tmp_path / "page").exit_code == 0
    files = [trained / "run.json", trained / "request.json", trained / "log.jsonl", maps / "predict.json"]
    files += [
        maps / "labels.json",
        evaluated.parent / "sets" / "manifest.json",
        tmp_path / "page/report.json",
    ]
    files += [evaluated / "evaluation.json", evaluated / "metrics.json"]
    texts = [text for file in files for text in written(file)]
    texts.append(coopseg("validate", phantom["acdc"], "--json").stdout)
    missing = {key for text in texts for key in keys(json.loads(text))} - named
    assert {key for key in missing if key not in ("FTN", "FTN+STN") and not key.startswith("hard_")} == set()
    assert {"filled_share", "passed_over", "method"} <= {
        key for text in texts for key in keys(json.loads(text))
    }
    for record in (Result, Failure, Probe):
        assert record.model_fields.keys() <= named


def written(file: Path) -> list[str]:
    """The JSON texts in a file, a line each in a log."""
    text = file.read_text()
    return text.splitlines() if file.suffix == ".jsonl" else [text]


def keys(content: dict[str, Any]) -> set[str]:
    """The keys of an object and of those in its lists; not of tables, which describe themselves."""
    rows = [row for value in content.values() if isinstance(value, list) for row in value[:1]]
    listed = [
        row for row in rows if isinstance(row, dict) and not {"lines", "panels", "samples"} & row.keys()
    ]
    return {key for entry in (content, *listed) for key in entry}


def test_errors(coopseg: Callable[..., Any], trained: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    for words, part in (
        ((phantom["acdc"],), "run.json: not found; give the --out of a finished"),
        (
            (trained.parent,),
            f"{trained.parent}: is no run folder but holds some; name them, as {trained.parent}/*",
        ),
        ((trained, "--evaluation", trained), "evaluation.json: not found; give the --out"),
    ):
        done = coopseg("report", *words, "--out", tmp_path / "new" / "out")
        assert done.exit_code == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert part in line
        assert not (tmp_path / "new").exists()


def test_copies_are_scaled_as_the_training_was(
    coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path: Path
) -> None:
    """Copies that were scaled by another rule than the model's once gave Dice 0 without a word."""
    run, data = tmp_path / "run", ("--data", phantom["acdc"])
    tiny = {"network.width": 2, "cases.size": "[32,32]", "cases.spacing": 8, "cases.window": "[5,300]"}
    sets = [f"--set={key}={value}" for key, value in (tiny | {"training.steps": 1}).items()]
    coopseg("train", *data, "--preset=quick", "--method=unet", "--device=cpu", *sets, "--out", run)
    ours, others = tmp_path / "ours", tmp_path / "others"
    few = ("--kinds=RandBias", "--copies=1", "--workers=1", "--set=cases.size=[32,32]")
    published, whole = (*few, "--grid=published"), tmp_path / "whole"
    made = coopseg("corrupt", *data, "--split", run, *published, "--out", ours)
    assert "as the training has it: cases.percentiles" in made.stderr
    assert "cases.window=(5.0, 300.0)" in made.stderr
    assert "not used" not in made.stderr
    patients = json.loads((run / "run.json").read_text())["split"]["test"]
    coopseg("corrupt", *data, "--patients", ",".join(patients), *published, "--out", others)
    made = coopseg("corrupt", *data, "--split", run, *few, "--severity=0", "--out", whole)
    assert "cases.size: not used, since the copies keep the scan's grid" in made.stderr
    for copies, said in ((ours, False), (others, True), (whole, False)):
        scores = tmp_path / copies.name / "scores"
        found = coopseg("evaluate", "--model", run, "--data", copies, "--device=cpu", "--out", scores).stderr
        assert ("scaled by cases.window None, the model has (5.0, 300.0)" in found) == said, found
        assert (f"coopseg corrupt --split {run}" in found) == said
    clean = ("--data", phantom["acdc"], "--split", run, "--device=cpu", "--out", tmp_path / "clean")
    coopseg("evaluate", "--model", run, *clean)
    means = [
        {
            (entry["class"], entry["group"], entry["value"]): entry["dice_mean"]
            for entry in json.loads((folder / "metrics.json").read_text())["summary"]
        }
        for folder in (tmp_path / "clean", tmp_path / "whole/scores")
    ]
    assert means[0] == means[1]  # the copies are prepared as the scans are


@pytest.mark.parametrize("function", [pytest.param("look", marks=pytest.mark.slow), "standardise"])
def test_a_perfect_model_made_elsewhere_is_perfect_on_copies_without_artefact(
    coopseg: Callable[..., Any], seen: Path, tmp_path: Path, function: str
) -> None:
    """Also one that standardises intensities first; on published copies both are lost, and that is said."""
    means = {}
    for grid in ("scan", "published"):
        copies, out = tmp_path / grid, tmp_path / f"{grid} scores"
        made = coopseg(
            "corrupt",
            "--data",
            seen,
            "--severity=0",
            "--copies=1",
            "--workers=1",
            f"--grid={grid}",
            "--out",
            copies,
        )
        assert made.exit_code == 0, made.stderr
        found = coopseg("evaluate", "--predictor", f"mine=seeing:{function}", "--data", copies, "--out", out)
        assert found.exit_code == 0, found.stderr
        assert ("make them anew by `coopseg corrupt --grid scan`" in found.stderr) == (grid == "published")
        rows = json.loads((out / "metrics.json").read_text())["rows"]
        assert len(rows) == 4 * 4 * 3
        means[grid] = sum(row["dice"] for row in rows) / len(rows)
        assert (out / "pictures").is_dir()
        assert json.loads((out / "evaluation.json").read_text())["nsd_tolerance"] == 2
    assert means["scan"] == 1
    assert means["published"] < 0.5


def test_one_of_three_is_evaluated(coopseg: Callable[..., Any], seen: Path, tmp_path: Path) -> None:
    words = ("evaluate", "--data", seen, "--out", tmp_path / "out")
    for given, says in (
        ((), "give one of --model, --predictor, --predictions; found none"),
        (("--model", "run", "--predictions", seen), "found --model and --predictions"),
        (("--predictor", "seeing:look", "--refine=0"), "--refine and --scan-statistics are for --model"),
        (("--predictor", "seeing:nothing"), "cannot be imported"),
        (("--predictor", "nowhere"), "predictor nowhere: 'nowhere' is not there"),
    ):
        done = coopseg(*words, *given)
        assert done.exit_code == 2
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_report_of_a_benchmark(coopseg: Callable[..., Any], tmp_path: Path) -> None:
    request = {
        "data": "/data/acdc", "split": "acdc-dev", "started": "2026-11-25T10:00:00",
        "blocks": [{"methods": ["standard", "dsu"], "draws": ["A"], "seeds": [0]}],
    }  # fmt: skip
    (tmp_path / "benchmark.json").write_text(json.dumps(request))
    done = coopseg("report", tmp_path)
    assert done.exit_code == 0, done.stderr
    page = tmp_path / "report" / "report.html"
    assert done.stdout.endswith(f"No job has finished yet.\n\nopen in a browser: {page}\n")
    assert "standard-A-0" in page.read_text()
    done = coopseg("report", tmp_path, "--out", tmp_path / "other")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "other" / "report.html").is_file()


def test_runs_need_a_folder_to_report_into(coopseg: Callable[..., Any], tmp_path: Path) -> None:
    done = coopseg("report", tmp_path)
    assert done.exit_code == 2
    assert done.stderr == "error: --out is missing: name the folder that the report is to be written into\n"
