"""What is kept of a benchmark is small and of no machine; from it a folder is made, nothing done twice."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from made_up_bench import CLASSES, HEADS, Bench, read_table
from tiny_grid import InProcess, state

from coopseg.benchmark import run, schedule
from coopseg.benchmark.executor import Ended
from coopseg.benchmark.keep import keep_benchmark, pack_scores, read_kept, without_places
from coopseg.benchmark.run import restore_benchmark, resume_benchmark
from coopseg.errors import CoopsegError
from coopseg.report.run import write_benchmark_report

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
            digits = {"dice": 7, "nsd": 7, "hd95": 3, "assd": 3}.get(name)
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


# Kept from a benchmark of the phantom in tests/conftest.py by the first code that could; later code has to
# read it still. --methods standard,cooperative-no-latent,cooperative --draws 0,1 --copies 1
# --severities 0,0.05 --severity-methods standard --cross far=...; the rest is in its kept.json.
FIXTURE = Path(__file__).parent / "fixture"
JOBS = [f"{row}-{draw}-0" for row in ("cooperative", "cooperative-no-latent", "standard") for draw in "01"]


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Stands in for whichever is asked for; every job that it is given ends at once, without a word."""
    made = InProcess(lambda task: Ended(3))

    @contextmanager
    def give(scheduler: str | None, workers: int) -> Iterator[InProcess]:
        yield made

    monkeypatch.setattr(run, "open_executor", give)
    monkeypatch.setattr(schedule, "corrupt_tested", lambda *args: None)  # nothing will be tested
    return made


@pytest.fixture
def places(phantom: dict[str, Path]) -> dict[str, Any]:
    """Where the data of the fixture lie."""
    return {"data": phantom["acdc"], "cross": phantom["mnms"]}


@pytest.fixture(scope="module")
def restored(large: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The large benchmark, kept ("kept") and restored ("bench"); read-only."""
    folder = tmp_path_factory.mktemp("restored")
    keep_benchmark(large, folder / "kept")
    done = restore_benchmark(folder / "kept", folder / "bench")
    assert len(done.finished) == 16
    return {"kept": folder / "kept", "bench": folder / "bench"}


def about(value: Any, exact: float = 1e-7) -> Any:
    """Equal up to what rounding Dice to seven digits, and distances to three, can do to a mean."""
    if isinstance(value, dict):
        return {key: about(entry, 5e-4 if key in ("hd95", "assd") else exact) for key, entry in value.items()}
    if isinstance(value, list):
        return [about(entry, exact) for entry in value]
    return pytest.approx(value, abs=exact) if isinstance(value, float) else value


def test_the_table_is_that_of_the_original(large: Path, restored: dict[str, Path]) -> None:
    before, after = (json.loads(json.dumps(read_table(folder))) for folder in (large, restored["bench"]))
    for results in (before, after):  # what failed is not kept: it is tried again
        for cell in results["cells"]:
            cell["state"] = cell["state"].replace("failed", "waiting")
            (cell["jobs"] or {}).pop("failed", None)
        for row in results["rows"]:
            for jobs in row["jobs"].values():
                jobs.pop("failed")
    for name in set(before) - {"request", "jobs", "cost"}:
        assert after[name] == about(before[name]), name
    assert after["cost"] == about([{**entry, "machine": None} for entry in before["cost"]])
    assert after["jobs"]["finished"] == before["jobs"]["finished"]


def test_kept_again_it_is_the_same(restored: dict[str, Path], tmp_path: Path) -> None:
    assert keep_benchmark(restored["bench"], restored["kept"]) == ()
    keep_benchmark(restored["bench"], tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 17
    for file in files:
        assert file.read_bytes() == (restored["kept"] / file.relative_to(tmp_path)).read_bytes()


def test_a_job_folder_holds_only_what_is_small(restored: dict[str, Path]) -> None:
    folder = restored["bench"] / "jobs" / "standard-A-0"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "evaluation/evaluation.json", "evaluation/metrics.json", "job.json", "result.json",
        "scan-grid/evaluation.json", "scan-grid/metrics.json",
        "severities/0.5/evaluation.json", "severities/0.5/metrics.json", "training/run.json",
    ]  # fmt: skip


def test_the_page_of_what_was_kept(restored: dict[str, Path], tmp_path: Path) -> None:
    page = write_benchmark_report(restored["bench"], tmp_path / "page").read_text()
    assert "There are no stored slices" in page
    assert "16 of 23 jobs finished" in page


def test_what_an_earlier_version_kept(executor: InProcess, places: dict[str, Any], tmp_path: Path) -> None:
    lines: list[str] = []
    done = restore_benchmark(FIXTURE, tmp_path / "bench", progress=lines.append, **places)
    assert executor.ran == []
    assert lines[-1] == "all 6 jobs have finished"
    assert (sorted(done.finished), done.failed) == (JOBS, {})
    results = json.loads((done.out / "table" / "results.json").read_text())
    for name in ("standard", "cooperative-no-latent", "cooperative"):
        draws = []
        for draw in "01":
            packed = json.loads(lzma.decompress((FIXTURE / f"jobs/{name}-{draw}-0.json.xz").read_bytes()))
            scores = packed["evaluation"]["scores"]
            lines_of = zip(scores["dataset"], scores["head"], scores["dice"], strict=True)
            draws.append(fmean(dice for *at, dice in lines_of if at == ["far", "FTN+STN"]))
        (cell,) = [
            c for c in results["cells"]
            if (c["row"], c["head"], c["column"], c["class"], c["group"])
            == (name, "FTN+STN", "far", "mean", "all")
        ]  # fmt: skip
        assert cell["mean"] == pytest.approx(fmean(draws))
    assert [point["severity"] for point in results["severity"][0]["points"]] == [0, 0.05, 1]
    assert results["request"]["cross"] == f"far={places['cross']}"
    assert sum(path.stat().st_size for path in FIXTURE.rglob("*") if path.is_file()) < 100_000


def test_what_needs_weights_says_so_and_runs_once_they_are_made_anew(
    executor: InProcess, places: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule.Schedule, "_write_table", lambda self: None)  # read below, not drawn
    bench, lines = tmp_path / "bench", list[str]()
    done = restore_benchmark(
        FIXTURE, bench, methods="post-dae", draws=["0"], severities=[0.1], severity_methods="standard",
        progress=lines.append, **places,
    )  # fmt: skip
    assert executor.ran == []
    folder = bench / "jobs" / "standard-0-0"
    advice = f"remove {folder} to have it trained anew, then go on with --resume"
    assert done.failed["post-dae-0-0"] == f"needs the weights of standard-0-0, which were not kept; {advice}"
    assert done.failed["standard-0-0"] == f"its weights were not kept; {advice}"
    assert f"post-dae-0-0: failed: {done.failed['post-dae-0-0']}" in lines
    table = read_table(bench)
    assert table["jobs"]["finished"] == 6  # the scores of standard-0-0 are there still
    assert {tuple(point["severity"] for point in curve["points"]) for curve in table["severity"]} == {
        (0, 0.05, 1)
    }
    shutil.rmtree(folder)
    resume_benchmark(bench)
    assert executor.ran == ["standard-0-0"]
    assert state(bench)["cooperative-0-0"] == "finished"


def test_data_that_are_others_are_refused(
    places: dict[str, Any], phantom: dict[str, Path], tmp_path: Path
) -> None:
    acdc, mnms = phantom["acdc"], phantom["mnms"]
    fewer = tmp_path / "fewer"
    shutil.copytree(acdc, fewer, ignore=shutil.ignore_patterns("patientP006"))
    half = tmp_path / "half"
    shutil.copytree(mnms, half, ignore=shutil.ignore_patterns("P0H0N5"))
    for given, says in [
        ({"data": acdc}, "the benchmark had a --cross"),
        ({"data": f"mine={acdc}", "cross": mnms}, "was tested on ACDC, far, found mine, far; name them"),
        ({"data": fewer, "cross": mnms}, "other train patients than draw 0 now"),
        ({"data": acdc, "cross": half}, "was tested on other patients of far|P0H0N5"),
        ({"cross": mnms}, "give --data too"),
        ({"data": acdc, "cross": mnms, "preset": "default"}, "another preset"),
    ]:
        with pytest.raises(CoopsegError, match=says):
            restore_benchmark(FIXTURE, tmp_path / "out", **given)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_named(restored: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(restored["kept"], tmp_path / "kept")
    file = tmp_path / "kept" / "jobs" / "standard-A-0.json.xz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CoopsegError, match=r"standard-A-0\.json\.xz: cannot be read"):
        restore_benchmark(tmp_path / "kept", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_through_the_program(coopseg: Callable[..., Any], bench: Bench, tmp_path: Path) -> None:
    bench.ask(["standard", "dsu"])
    bench.finish("standard")
    kept = tmp_path / "kept"
    result = coopseg("benchmark", "--keep", bench.folder, "--out", kept)
    assert result.stdout == f"1 job kept anew in {kept}: standard-A-0\n", result.stderr
    assert (
        coopseg("benchmark", "--keep", bench.folder, "--out", kept).stdout == f"0 jobs kept anew in {kept}\n"
    )
    result = coopseg("benchmark", "--restore", kept, "--out", tmp_path / "back")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == "1 job restored; 1 more not run, since no --data is given\n"
    assert (tmp_path / "back" / "table" / "results.md").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--keep=a", "--restore=b", "--out=c"), "--keep and --restore exclude each other; give one of them"),
        (("--keep=a",), "--keep needs --out"),
        (("--restore=a",), "--restore needs --out"),
        (("--keep=a", "--out=b", "--methods=rsc"), "--keep runs nothing; it takes --out and no other option"),
        (("--restore={tmp}", "--out=b"), "kept.json: not found; --restore takes a folder that --keep"),
    ],
)
def test_what_the_program_refuses(
    coopseg: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    result = coopseg("benchmark", *(word.format(tmp=tmp_path) for word in words))
    assert result.exit_code == 2, result.exception
    (line,) = result.stderr.splitlines()
    assert says in line


def test_damaged_files_that_were_kept(bench: Bench, tmp_path: Path) -> None:
    """Also those that would write beside the folder, and one that unpacks to gigabytes."""
    kept = tmp_path / "kept"
    bench.finish("standard")
    keep_benchmark(bench.folder, kept)
    file = kept / "jobs" / "standard-A-0.json.xz"
    content = file.read_bytes()
    wrong: list[bytes] = [
        b"",
        content[:99],
        content[:-5],
        b"\x00" * 99,
        lzma.compress(b"[]"),
        lzma.compress(b"\x00"),
    ]
    for path, value in (
        (("job", "id"), "../../../other"), (("job", "id"), None), (("result",), {}), (("run", "steps"), "x"),
        (("evaluation", "record", "data"), [None]), (("evaluation", "scores"), {}),
        (("evaluation", "scores", "dice"), [0.5]), (("evaluation", "scores", "dice"), "x"),
    ):  # fmt: skip
        packed = unpacked(file)
        part = packed
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        wrong.append(lzma.compress(json.dumps(packed).encode()))
    packed = unpacked(file)
    packed["severities"] = {"../../x": packed["evaluation"]}
    wrong.append(lzma.compress(json.dumps(packed).encode()))
    for damage in wrong:
        file.write_bytes(damage)
        with pytest.raises(
            CoopsegError, match=r"standard-A-0.json.xz: .*; remove it, and its job is done anew"
        ):
            restore_benchmark(kept, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench", "kept"]


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"format": 1}', '{"format": "1"}', "\x00" * 9])
def test_damaged_kept_json(damage: str, bench: Bench, tmp_path: Path) -> None:
    bench.finish("standard")
    keep_benchmark(bench.folder, tmp_path / "kept")
    (tmp_path / "kept" / "kept.json").write_text(damage)
    with pytest.raises(CoopsegError, match=r"kept.json: "):
        restore_benchmark(tmp_path / "kept", tmp_path / "out")
