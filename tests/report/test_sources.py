"""Which evaluation belongs to which run, and everything that cannot be told apart or read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coopseg.errors import CoopsegError
from coopseg.report.sources import read_evaluation, read_run, read_runs

Maker = Callable[..., Path]


def test_names_and_labels(make_run: Maker) -> None:
    folders = [make_run("a"), make_run("b", method="standard"), make_run("c", seed=1), make_run("d", seed=1)]
    found = read_runs([*folders[:3], f"cooperative={folders[3]}"])
    assert [(run.method, run.label) for run in found] == [
        ("cooperative", "seed 0"),
        ("standard", "seed 0"),
        ("cooperative", "seed 1 (1)"),
        ("cooperative", "seed 1 (2)"),
    ]
    assert [run.sha256 for run in found] == ["sha-a", "sha-b", "sha-c", "sha-d"]


def test_evaluations_go_to_the_run_whose_weights_they_saw(
    make_run: Maker, make_evaluation: Maker, tmp_path: Path
) -> None:
    first, second = make_run("a"), make_run("b", seed=1)
    make_evaluation(first, datasets={"ACDC": "intra"})
    make_evaluation(first, first / "more", datasets={"RandBias": "corrupted"})
    apart = make_evaluation(second, tmp_path / "apart", datasets={"ACDC": "intra"})
    found = read_runs([first, second], evaluations=[apart, first / "evaluation"])  # one is found twice
    assert [entry.folder for entry in found[0].evaluations] == [first / "evaluation", first / "more"]
    assert [entry.folder for entry in found[1].evaluations] == [apart]
    assert list(found[0].datasets) == ["ACDC", "RandBias"]
    assert {row["dataset"] for row in found[0].rows} == {"ACDC", "RandBias"}
    assert len(found[1].rows) == 6 * 2 * 2 * 2


def test_an_evaluation_of_no_given_run(make_run: Maker, make_evaluation: Maker, tmp_path: Path) -> None:
    run, other = make_run("a"), make_run("b")
    stray = make_evaluation(other, tmp_path / "stray")
    assert read_run("", other).sha256 == "sha-b"  # though its best weights lie beside its last
    with pytest.raises(CoopsegError, match=r"stray: evaluates .*b/last.safetensors \(SHA-256 sha-b\)"):
        read_runs([run], evaluations=[stray])
    shutil.move(stray, run / "evaluation")  # such as one made before the run was trained again
    with pytest.raises(CoopsegError, match=r"evaluation: evaluates .* not the last weights of a run"):
        read_runs([run])


def test_a_data_set_evaluated_twice(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    for name in ("one", "two"):
        make_evaluation(run, run / name, datasets={"ACDC": "intra"})
    with pytest.raises(CoopsegError, match=r"ACDC was evaluated in .*one and in .*two; keep one"):
        read_runs([run])


def test_no_run_folder(make_run: Maker, tmp_path: Path) -> None:
    run = make_run("a")
    wrong: Any
    for wrong, message in (
        ([], "nothing to report"),
        ([tmp_path / "none"], "none/run.json: cannot be read"),
        ([run, f"other={run}"], "a: given twice"),
    ):
        with pytest.raises(CoopsegError, match=message):
            read_runs(wrong)
    weights = run / "last.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(CoopsegError, match=r"last.safetensors: cannot be read as safetensors"):
        read_run("", run)
    weights.unlink()
    with pytest.raises(CoopsegError, match=r"holds no last.safetensors"):
        read_run("", run)
    (run / "run.json").write_text("[]")
    with pytest.raises(CoopsegError, match=r"run.json: holds no settings, data, split"):
        read_run("", run)
    (run / "run.json").write_text("{")
    with pytest.raises(CoopsegError, match=r"run.json: is no JSON"):
        read_run("", run)


def test_what_is_no_evaluation(make_run: Maker, make_evaluation: Maker, tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match=r"evaluation.json: cannot be read"):
        read_evaluation(tmp_path)
    folder = make_evaluation(make_run("a"))
    record = json.loads((folder / "evaluation.json").read_text())
    del record["data"][0]["domain"]
    (folder / "evaluation.json").write_text(json.dumps(record))
    with pytest.raises(CoopsegError, match="says no domain of ACDC; evaluate again"):
        read_evaluation(folder)


def test_a_log_with_what_json_lacks(make_run: Maker) -> None:
    run = make_run("a")
    (run / "log.jsonl").write_text('{"kind": "train", "step": 1, "total": NaN}\n{"kind": "tr')
    with pytest.raises(CoopsegError, match=r"log.jsonl: line 2 is no JSON"):
        read_run("", run)
    (run / "log.jsonl").write_text('{"kind": "train", "step": 1, "total": NaN}\n')
    assert read_run("", run).log[0]["total"] is None
    (run / "log.jsonl").unlink()
    assert read_run("", run).log == []
