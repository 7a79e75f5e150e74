"""Whole benchmarks of tiny jobs: what is left to do is done, once; a failure leaves the rest alone."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_bench import read_table
from tiny_grid import TINY, WORDS, InProcess, state

from coopseg.benchmark import data, run, schedule
from coopseg.benchmark.executor import Ended, Task
from coopseg.benchmark.request import read_request
from coopseg.benchmark.run import resume_benchmark, run_benchmark
from coopseg.benchmark.schedule import reason
from coopseg.errors import CoopsegError
from coopseg.evaluation.corrupt import corrupt_dataset
from coopseg.scans.nifti import read_image

pytestmark = pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage`:DeprecationWarning")


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Stands in for whichever is asked for."""
    made = InProcess()

    @contextmanager
    def give(scheduler: str | None, workers: int) -> Iterator[InProcess]:
        yield made

    monkeypatch.setattr(run, "open_executor", give)
    monkeypatch.setattr(data, "corrupt_dataset", partial(corrupt_dataset, workers=1))
    return made


def broken(task: Task) -> Ended | None:
    """The machine takes back the job of one row."""
    return Ended(-signal.SIGKILL) if task.argument.startswith("cooperative-1") else None


@pytest.mark.slow
def test_a_grid_through_the_program_then_more_of_it(
    executor: InProcess, coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path: Path
) -> None:
    out, executor.before = tmp_path / "bench", broken
    grid = ("--data", phantom["acdc"], "--methods", "cooperative,post-dae", "--draws", "0,1", *WORDS)
    result = coopseg("benchmark", *grid, "--out", out)
    assert result.exit_code == 1, result.stderr
    notes = result.stderr.splitlines()
    assert notes[0].startswith("6 of 6 jobs to do, one by one: about ")
    assert notes[0].endswith("by rough figures until the first steps are timed")
    assert "standard, draw 0, seed 0: added, since post-dae stands on it" in notes
    assert any(line.startswith("cooperative-0-0: finished in ") for line in notes)
    assert notes[-1].startswith("error: cooperative-1-0: its process was killed by SIGKILL")
    assert "5 jobs finished, 1 failed" in result.stdout
    assert f"coopseg benchmark --resume {out}" in result.stdout
    assert state(out) | {"cooperative-1-0": "failed"} == dict.fromkeys(state(out), "finished") | {
        "cooperative-1-0": "failed"
    }
    assert executor.ran[:2] == ["cooperative", "cooperative-0-0"]  # a probe, then jobs
    check_jobs(out)
    assert "killed by SIGKILL" in (out / "table" / "results.md").read_text()

    executor.before, executor.ran = lambda task: None, []
    result = coopseg("benchmark", "--resume", out, "--methods", "standard", "--seeds", "1", "--draws", "0")
    assert result.exit_code == 0, result.stderr
    assert executor.ran == ["standard", "cooperative-1-0", "standard-0-1"]
    assert set(state(out).values()) == {"finished"}
    executor.ran = []
    result = coopseg("benchmark", "--resume", out)
    assert executor.ran == []
    assert result.stderr.splitlines() == ["all 7 jobs have finished"]


def check_jobs(out: Path) -> None:
    """What the table relies on."""
    folder = out / "jobs" / "cooperative-0-0"
    assert json.loads((folder / "result.json").read_text()).keys() == {
        "id", "row", "draw", "seed", "budget", "steps", "seconds", "training_seconds",
        "evaluation_seconds", "finished", "machine",
    }  # fmt: skip
    training = json.loads((folder / "training" / "run.json").read_text())
    assert (training["settings"]["method"], training["steps"]) == ("cooperative", 2)
    evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    assert [(entry["name"], entry["domain"]) for entry in evaluation["data"]] == [
        ("ACDC", "intra"), ("RandBias", "corrupted"), ("RandGhost", "corrupted"),
        ("RandMotion", "corrupted"), ("RandSpike", "corrupted"),
    ]  # fmt: skip
    assert all(entry["patients"] == training["split"]["test"] for entry in evaluation["data"])
    assert evaluation["warnings"] == []
    other = json.loads((out / "jobs" / "post-dae-1-0" / "training" / "run.json").read_text())
    assert other["split"]["test"] != training["split"]["test"]
    assert other["settings"]["method"] == "post-dae"
    probe = json.loads((out / "probes" / "cooperative.json").read_text())
    assert probe["steps"] == 20
    assert 0 < probe["seconds_per_step"] < 10
    assert 0 < probe["peak_memory_gb"] < 64


@pytest.mark.slow
def test_equal_time_severities_and_other_sites(
    executor: InProcess, phantom: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "bench"
    lines: list[str] = []

    def fake_probes(task: Task) -> Ended | None:
        if task.module.endswith("probe"):
            seconds = {"standard": 0.5, "cooperative": 2.0}[task.argument]
            task.log.parent.mkdir(exist_ok=True)
            facts = {"row": task.argument, "seconds_per_step": seconds, "steps_of_training": 2}
            (task.log.parent / f"{task.argument}.json").write_text(json.dumps(facts))
            return Ended(0)
        return None

    executor.before = fake_probes
    arguments = TINY | {"cross": f"far={phantom['mnms']}", "progress": lines.append}
    done = run_benchmark(
        phantom["acdc"],
        out,
        methods="standard",
        equal_time=True,
        severities=(0, 0.5, 1),
        severity_methods="standard",
        **arguments,
    )
    assert done.failed == {}
    assert set(done.finished) == {"standard---0", "standard---0-equal-time"}
    timed = out / "jobs" / "standard---0-equal-time"
    assert json.loads((timed / "result.json").read_text())["steps"] == 8  # two steps of 2 s, at 0.5 s each
    assert not (timed / "severities").exists()
    severe = out / "jobs" / "standard---0" / "severities"
    assert sorted(path.name for path in severe.iterdir()) == ["0", "0.5"]
    check_severity_nought(out)
    assert sorted(path.name for path in (severe / "0.5").iterdir()) == [
        "cases.csv", "done.jsonl", "evaluation.json", "metrics.json", "metrics.md",
    ]  # fmt: skip
    evaluation = json.loads((timed / "evaluation" / "evaluation.json").read_text())
    assert [entry["name"] for entry in evaluation["data"]][-1] == "far"
    assert len(evaluation["data"][-1]["patients"]) == 6
    assert evaluation["spacing"] == "nominal"
    assert json.loads((out / "corrupted" / "manifest.json").read_text())["settings"]["spacing"] == 6.0


def test_models_made_elsewhere_are_tested_on_scans_as_they_are(
    executor: InProcess, seen: Path, tmp_path: Path
) -> None:
    """They know every voxel of a clean scan, and so they must of a copy without an artefact."""
    predictors = ["look=seeing:look", "standardise=seeing:standardise"]
    given = TINY | {"split": "random", "severities": (0, 0.5), "severity_methods": ["look"]}
    done = run_benchmark(seen, tmp_path / "bench", predictors=predictors, **given)
    assert done.failed == {}
    assert not (done.out / "corrupted").exists()
    results = read_table(done.out)
    mean = {
        (cell["row"], cell["column"]): cell["mean"]
        for cell in results["cells"]
        if (cell["head"], cell["class"], cell["group"]) == ("FTN", "mean", "all")
    }
    kinds = [f"{kind} (scan grid)" for kind in ("RandBias", "RandGhost", "RandMotion", "RandSpike")]
    assert [column["name"] for column in results["columns"]] == [
        "seen", "no artefact (scan grid)", *kinds, "average corrupted (scan grid)",
    ]  # fmt: skip
    for row in ("look", "standardise"):
        assert mean[row, "seen"] == mean[row, "no artefact (scan grid)"] == 1
        assert min(mean[row, kind] for kind in kinds) < 0.9
    curves = {curve["kind"]: curve["points"] for curve in results["severity"]}
    assert [*curves] == kinds
    assert [point["severity"] for point in curves[kinds[0]]] == [0, 0.5, 1]
    assert all(points[0]["mean"] == 1 for points in curves.values())


@pytest.mark.slow
def test_rows_trained_here_stand_beside_a_predictor_that_comes_later(
    executor: InProcess, seen: Path, tmp_path: Path
) -> None:
    bench = tmp_path / "bench"
    run_benchmark(seen, bench, methods="standard,standard@1", **TINY)
    assert not (bench / "scan-grid").exists()
    executor.ran.clear()
    done = resume_benchmark(bench, predictors=["look=seeing:look"])
    assert (done.failed, executor.ran) == ({}, ["standard---0", "look---0", "standard@1---0"])
    results = read_table(bench)
    scored = {
        row: [cell["column"] for cell in results["cells"] if (cell["row"], cell["state"]) == (row, "value")]
        for row in ("standard", "standard@1", "look")
    }
    whole = {"no artefact (scan grid)", *(f"{kind} (scan grid)" for kind in ("RandBias", "RandSpike"))}
    assert whole <= set(scored["standard"]) & set(scored["standard@1"]) & set(scored["look"])
    assert "RandBias" in scored["standard"]
    assert "RandBias" not in scored["look"]
    cells = {
        (c["row"], c["column"], c["class"], c["group"]): c["mean"]
        for c in results["cells"]
        if c["head"] == "FTN"
    }
    for name in ("standard", "standard@1"):  # the model prepares the copies as it prepares the scans
        assert cells[name, "seen", "LV", "all"] == cells[name, "no artefact (scan grid)", "LV", "all"]


def check_severity_nought(out: Path) -> None:
    """Copies of all kinds are the same cropped volume in [0, 1], and so are their scores."""
    kinds = sorted(path for path in (out / "severities" / "0").iterdir() if path.is_dir())
    assert len(kinds) == 4
    for image in (kinds[0] / "images").iterdir():
        volumes = [read_image(kind / "images" / image.name).data for kind in kinds]
        assert volumes[0].shape[:2] == (32, 32)
        assert (volumes[0].min(), volumes[0].max()) == (0, 1)
        for volume in volumes[1:]:
            np.testing.assert_allclose(volume, volumes[0], atol=2e-6)
    curves = read_table(out)["severity"]
    assert all(curve["measured_nought"] for curve in curves)
    for head in ("FTN", "FTN+STN"):
        points = [curve["points"][0] for curve in curves if curve["head"] == head]
        assert [point["severity"] for point in points] == [0] * 4
        assert {round(point["mean"], 2) for point in points} == {round(points[0]["mean"], 2)}


def test_a_row_that_fails_leaves_the_others(
    executor: InProcess, phantom: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from coopseg.training.rival import ImageRival\n"
        "class Broken(ImageRival):\n"
        "    name = 'broken'\n"
        "    def sample(self, *_):\n"
        "        raise RuntimeError('not today,\\nnor tomorrow')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    lines: list[str] = []
    done = run_benchmark(
        phantom["acdc"], tmp_path / "bench", methods="mine:Broken,cooperative-no-latent",
        progress=lines.append, **TINY,
    )  # fmt: skip
    assert done.finished == ("cooperative-no-latent---0",)
    assert done.failed == {"mine:Broken---0".replace(":", "_"): "not today, nor tomorrow"}
    assert "mine:Broken: not timed: not today, nor tomorrow" in lines
    assert "mine_Broken---0: failed: not today, nor tomorrow" in lines
    error = json.loads((tmp_path / "bench" / "jobs" / "mine_Broken---0" / "error.json").read_text())
    assert error["kind"] == "RuntimeError"
    with pytest.raises(CoopsegError, match=r"asks for the code 'mine:Broken', .* add --trust mine:Broken"):
        resume_benchmark(tmp_path / "bench")
    executor.before = lambda task: Ended(0) if task.trusted == ("mine:Broken",) else pytest.fail("untrusted")
    assert resume_benchmark(tmp_path / "bench", trust=["mine:Broken"]).finished == done.finished
    assert (tmp_path / "bench" / "table" / "results.md").is_file()


def test_what_stands_on_a_failed_job_fails_and_a_missing_probe_is_named(
    executor: InProcess, phantom: dict[str, Path], tmp_path: Path
) -> None:
    executor.before = lambda task: Ended(-signal.SIGTERM if task.module.endswith("probe") else 3)
    done = run_benchmark(phantom["acdc"], tmp_path / "bench", methods="post-dae", **TINY)
    assert done.failed["standard---0"] == "its process ended with code 3 and no word; see log.txt"
    assert done.failed["post-dae---0"] == "needs standard---0, which failed"
    assert "post-dae---0" not in executor.ran


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (Ended(-signal.SIGKILL), "killed by SIGKILL, most likely for want of memory"),
        (Ended(-signal.SIGSEGV), "ended by SIGSEGV"),
        (Ended(128 + signal.SIGTERM), "ended by SIGTERM; `--resume` goes on with it"),
        (Ended(2), "ended with code 2"),
        (Ended(None, "all those workers died"), "all those workers died"),
    ],
)
def test_reasons(ended: Ended, says: str) -> None:
    assert says in reason(ended)


def test_interrupted_it_says_how_to_go_on(
    executor: InProcess, phantom: dict[str, Path], tmp_path: Path
) -> None:
    def interrupt(task: Task) -> None:
        raise KeyboardInterrupt

    executor.before = interrupt
    lines: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(phantom["acdc"], tmp_path / "bench", methods="standard", progress=lines.append, **TINY)
    assert lines[-1] == f"stopped; go on with `coopseg benchmark --resume {tmp_path / 'bench'}`"
    assert state(tmp_path / "bench") == {"standard---0": "waiting"}


def test_one_at_a_time_in_a_folder(
    executor: InProcess, phantom: dict[str, Path], tmp_path: Path, hold: Callable[[Path], int]
) -> None:
    executor.before = lambda task: Ended(1)
    bench, new = tmp_path / "bench", tmp_path / "new"
    run_benchmark(phantom["acdc"], bench, methods="standard", **TINY)
    holder = hold(bench)
    with pytest.raises(CoopsegError, match=rf"^{bench}: process {holder} on .*, works in it; wait, or stop"):
        resume_benchmark(bench)
    new.mkdir()
    hold(new)
    with pytest.raises(CoopsegError, match=rf"^{new}: process .* works in it"):
        run_benchmark(phantom["acdc"], new, methods="standard", **TINY)
    assert [path.name for path in new.iterdir()] == [".lock"]


def test_a_table_that_cannot_be_written_meanwhile_ends_nothing(
    executor: InProcess, phantom: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: schedule.Schedule) -> None:
        raise ZeroDivisionError("of the table")

    executor.before = lambda task: Ended(1)
    monkeypatch.setattr(schedule, "TABLE_EVERY", 0)
    monkeypatch.setattr(schedule.Schedule, "_write_table", fail)
    lines: list[str] = []
    with pytest.raises(ZeroDivisionError):  # at the end it is a bug as any other
        run_benchmark(phantom["acdc"], tmp_path / "bench", methods="standard", progress=lines.append, **TINY)
    assert "the table could not be written: of the table" in lines


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "benchmark needs --data and --out, or --resume"),
        (("--out", "{out}"), "benchmark needs --data and --out"),
        (("--resume", "{out}", "--out", "{out}"), "leave --out away"),
        (("--resume", "{out}"), "benchmark.json: not found"),
        (("--data", "{data}", "--out", "{out}"), "nothing to do: give --methods or --predictor"),
        (("--data", "{out}", "--out", "{out}", "--methods=rsc"), "no such folder"),
        (("--data", "{data}", "--out", "{out}", "--methods=rsc", "--draws=A"), "draw 'A': draws of a random"),
        (("--data", "{data}", "--out", "{out}", "--methods=rsc", "--split=acdc-dev", "--draws=D"),
         "draw 'D': split acdc-dev has draws A, B, C, 70"),
        (("--data", "{data}", "--out", "{out}", "--methods=rsc", "--split=acdc-dev-A"), "no such patients"),
        (("--data", "{data}", "--out", "{out}", "--methods=rsc", "--cross={data}"), "two data sets are"),
        (("--data", "{data}", "--out", "{out}", "--methods=rsc", "--seeds=a"), "--seeds: 'a' is no number"),
        (("--data", "{data}", "--out", "{out}", "--methods=rsc", "--scheduler=x", "--workers=2"), "give one"),
        (("--data", "{data}", "--out", "{data}", "--methods=rsc"), "not an empty folder"),
    ],
)  # fmt: skip
def test_what_the_program_refuses(
    coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    places = {"out": tmp_path / "out", "data": phantom["acdc"]}
    result = coopseg("benchmark", *(word.format(**places) for word in words))
    assert result.exit_code == 2, result.exception
    (line,) = result.stderr.splitlines()
    assert says in line
    assert not (tmp_path / "out").exists()


def test_draws_of_a_folder(
    executor: InProcess, phantom: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "splits").mkdir()
    patients = [f"patientP00{number}" for number in range(1, 7)]
    parts = {"train": patients[:4], "validate": patients[4:5], "test": patients[5:]}
    (tmp_path / "splits" / "mine.json").write_text(json.dumps(parts))
    executor.before = lambda task: Ended(1)
    run_benchmark(phantom["acdc"], "bench", methods="standard", split="splits", draws=["mine"], **TINY)
    assert executor.ran == ["standard", "standard-mine-0"]
    request = read_request(Path("bench"))
    opened = data.open_data(request)
    assert opened.split("mine").test == ("patientP006",)
    assert opened.write_split(Path("bench"), "mine") == str(tmp_path / "splits" / "mine.json")
    assert all(each.patients == ("patientP006",) for each in opened.test_sets(Path("bench"), ["patientP006"]))
    with pytest.raises(CoopsegError, match=r"other\.json: no such split"):
        resume_benchmark("bench", draws=["other"])
