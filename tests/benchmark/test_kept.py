"""What is kept of a benchmark: the numbers of every finished job, small, and nothing of a machine."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from made_up_bench import CLASSES, HEADS, Bench

from coopseg.benchmark.keep import keep_benchmark, pack_scores, read_kept, without_places
from coopseg.errors import CoopsegError

REAL = {
    "ACDC": ("intra", 20, 1), **dict.fromkeys(("RandBias", "RandGhost", "RandMotion", "RandSpike"),
    ("corrupted", 20, 3)), "M&Ms": ("other", 24, 1),
}  # fmt: skip


def unpacked(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lzma.decompress(file.read_bytes()))
    return found


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def test_only_what_has_finished_since_is_added(bench: Bench, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    bench.ask(["standard", "dsu", "rsc"])
    bench.finish("standard")
    bench.fail("rsc")
    assert keep_benchmark(bench.folder, kept) == ("standard-A-0",)
    before = files(kept)
    assert set(before) == {"kept.json", "jobs/standard-A-0.json.xz"}
    assert keep_benchmark(bench.folder, kept) == ()
    assert files(kept) == before  # not even written again
    bench.finish("dsu", severities=[0.05])
    bench.probe("dsu", 0.5)
    assert keep_benchmark(bench.folder, kept) == ("dsu-A-0",)
    after = files(kept)
    assert after["jobs/standard-A-0.json.xz"] == before["jobs/standard-A-0.json.xz"]
    assert read_kept(kept)["probes"][0]["seconds_per_step"] == 0.5


def test_severities_that_came_later_are_added(bench: Bench, tmp_path: Path) -> None:
    folder = bench.finish("standard", severities=[0.05])
    (folder / "severities").rename(tmp_path / "later")
    keep_benchmark(bench.folder, tmp_path / "kept")
    (tmp_path / "later").rename(folder / "severities")
    assert keep_benchmark(bench.folder, tmp_path / "kept") == ("standard-A-0",)
    assert list(unpacked(tmp_path / "kept/jobs/standard-A-0.json.xz")["severities"]) == ["0.05"]


def test_every_score_is_there_rounded(large: Path, tmp_path: Path) -> None:
    keep_benchmark(large, tmp_path)
    metrics = large / "jobs" / "post-dae-A-0" / "evaluation" / "metrics.json"
    rows = json.loads(metrics.read_text())["rows"]
    scores = unpacked(tmp_path / "jobs" / "post-dae-A-0.json.xz")["evaluation"]["scores"]
    assert set(scores) == set(rows[0]) - {"seconds"}
    for number, row in enumerate(rows):
        for name, values in scores.items():
            digits = {"dice": 7, "hd95": 3, "assd": 3}.get(name)
            exact = row[name] if digits is None or row[name] is None else round(row[name], digits)
            assert values[number] == exact
    assert any(value is None for value in scores["hd95"])


def test_nothing_of_the_machine_is_kept(bench: Bench, tmp_path: Path) -> None:
    folder = bench.finish("standard", pictures=True)
    home = "/home/me/benches/one"
    run = {
        "steps": 5, "split": {"name": f"{home}/splits/0.json"}, "versions": {"machine": "x86_64"},
        "warnings": [f"{home}/p1.nii.gz: odd, see {home}/log.txt"], "command": [f"{home}/x"],
    }  # fmt: skip
    (folder / "training" / "run.json").write_text(json.dumps(run))
    bench.request |= {"data": f"ACDC={home}/acdc", "split": f"{home}/splits"}
    bench.save()
    bench.probe("standard", 0.5)
    keep_benchmark(bench.folder, tmp_path / "kept")
    packed = unpacked(tmp_path / "kept" / "jobs" / "standard-A-0.json.xz")
    text = json.dumps([read_kept(tmp_path / "kept"), packed])
    for trace in (home, "benches", str(tmp_path), "/x/bin", '"machine": "x"'):
        assert trace not in text
    assert packed["run"] == {
        "steps": 5, "split": {"name": "…/0.json"}, "warnings": ["…/p1.nii.gz: odd, see …/log.txt"],
        "versions": {"machine": "x86_64"},
    }  # fmt: skip
    assert packed["evaluation"]["record"]["slices"] == []
    assert read_kept(tmp_path / "kept")["request"]["data"] == "ACDC=…/acdc"
    plain = {"site": "B/2", "doi": "https://doi.org/10.1/x", "n/a": "n/a", "two": "a / b", "score": "-g·z"}
    assert without_places(plain) == plain
    assert without_places(packed["run"]) == packed["run"]


def real_rows(heads: tuple[str, ...]) -> list[dict[str, Any]]:
    """As many rows as a job on real scans has, of numbers that cannot be packed better than chance allows."""
    from numpy.random import default_rng

    generator = default_rng(0)
    return [
        {"dataset": name, "case": f"patient{p:03d}_{phase}_copy{copy}", "patient": f"patient{p:03d}",
         "phase": phase, "site": "", "copy": copy, "head": head, "class": c, "dice": generator.random(),
         "hd95": 50 * generator.random(), "assd": 9 * generator.random(), "distance": "measured",
         "seconds": generator.random()}
        for name, (_, patients, copies) in REAL.items() for p in range(patients) for phase in ("ED", "ES")
        for copy in range(copies) for head in heads for c in CLASSES
    ]  # fmt: skip


def test_a_real_job_with_all_its_severities_is_small() -> None:
    rows = real_rows(HEADS)
    assert len(rows) == (20 * (1 + 4 * 3) + 24) * 2 * 2 * 3
    severe = [row for row in rows if row["dataset"].startswith("Rand") and row["copy"] == 0]
    whole, one = (len(lzma.compress(json.dumps(pack_scores(part)).encode())) for part in (rows, severe))
    assert whole + 4 * one < 100_000  # bytes


def test_what_is_refused(bench: Bench, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with pytest.raises(CoopsegError, match=r"benchmark\.json: not found"):
        keep_benchmark(tmp_path, kept)
    with pytest.raises(CoopsegError, match=r"kept\.json: not found; --restore takes a folder that --keep"):
        read_kept(bench.folder)
    bench.finish("standard")
    keep_benchmark(bench.folder, kept)
    bench.request["started"] = "another day"
    bench.save()
    with pytest.raises(CoopsegError, match="keeps another benchmark, begun 2026-11-25T10:00:00"):
        keep_benchmark(bench.folder, kept)
    (kept / "kept.json").write_text('{"format": 2}')
    with pytest.raises(CoopsegError, match="has format 2, known is 1; update coopseg"):
        read_kept(kept)
