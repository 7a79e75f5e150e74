"""A training that is stopped in any way goes on as if nothing had been: the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import killed
import numpy as np
import pytest
import torch
from safetensors import safe_open

from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError, Stopped
from coopseg.inference.model import load_model
from coopseg.scans.files import LOCK
from coopseg.scans.nifti import read_image, write_image
from coopseg.training import run as run_module
from coopseg.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from coopseg.training.inputs import read_inputs
from coopseg.training.loop import Progress
from coopseg.training.run import resume, train

PROGRAM = (sys.executable, "-m", "coopseg", "train")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def reference(phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    run = tmp_path_factory.mktemp("reference") / "run"
    killed.finish(phantom["acdc"], run)
    return run


def tensors(path: Path) -> dict[str, bytes]:
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def log(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] != "start"]


def assert_same(run: Path, reference: Path) -> None:
    for name in ("last.safetensors", "best_ftn.safetensors", "best_stn.safetensors"):
        assert tensors(run / name) == tensors(reference / name)
    assert log(run) == log(reference)
    records = [json.loads((folder / "run.json").read_text()) for folder in (run, reference)]
    assert records[0]["best"] == records[1]["best"]
    assert records[0]["validations"] == records[1]["validations"]
    pictures = [sorted((folder / "hard_examples").iterdir()) for folder in (run, reference)]
    assert [file.name for file in pictures[0]] == [file.name for file in pictures[1]]
    assert [file.read_bytes() for file in pictures[0]] == [file.read_bytes() for file in pictures[1]]
    assert not (run / CHECKPOINT).exists()
    assert not list(run.rglob(".*.tmp"))


@pytest.mark.parametrize("write", killed.WRITES)
def test_killed_in_the_write_of_a_checkpoint(
    phantom: dict[str, Path], tmp_path: Path, reference: Path, write: Any
) -> None:
    run = tmp_path / "run"
    process = killed.start(phantom["acdc"], run, (write, 5))
    assert killed.kill_after(process, 60) == -signal.SIGKILL
    killed.finish(phantom["acdc"], run)
    assert_same(run, reference)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_fifty_random_moments(
    phantom: dict[str, Path], tmp_path: Path, reference: Path, seed: int
) -> None:
    """Five kills each, at random times and in writes of checkpoints; every run that ends is the same."""
    seconds = killed.finish(phantom["acdc"], tmp_path / "warm")  # processes start quicker than the first did
    assert_same(tmp_path / "warm", reference)
    draw, kills, run = random.Random(seed), 0, tmp_path / "run0"
    while kills < 5:
        dies = (draw.choice(killed.WRITES), draw.randint(1, 8)) if draw.random() < 0.2 else None
        process = killed.start(phantom["acdc"], run, dies)
        if killed.kill_after(process, 60 if dies else draw.uniform(0, seconds)) == -signal.SIGKILL:
            kills += 1
            if not (run / "request.json").is_file():
                shutil.rmtree(run, ignore_errors=True)  # it had not begun
        else:
            assert_same(run, reference)
            run = run.with_name(f"run{int(run.name[3:]) + 1}")
    killed.finish(phantom["acdc"], run)
    assert_same(run, reference)


@pytest.mark.slow
def test_sigterm_saves_and_exits_143_and_the_program_resumes(
    phantom: dict[str, Path], tmp_path: Path, reference: Path
) -> None:
    run = tmp_path / "run"
    words = ["--preset=cpu", "--method=cooperative", "--seed=3", "--device=cpu"]
    words += [f"--set={name}={json.dumps(value)}" for name, value in killed.SETTINGS.items()]
    process = subprocess.Popen(
        [*PROGRAM, "--data", phantom["acdc"], "--out", run, *words],
        env=ONE_THREAD, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "12 steps on" not in process.stderr.readline():
        assert process.poll() is None
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    assert errors.count("\n") == 1
    assert f"go on with `coopseg train --resume {run}`" in errors
    assert (run / CHECKPOINT).is_file()
    again = subprocess.run((*PROGRAM, "--resume", run), env=ONE_THREAD, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert_same(run, reference)


def processes_naming(run: Path) -> list[int]:
    """Numbers of the processes that have the run folder in their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may just have ended
            if str(run).encode() in file.read_bytes():
                found.append(int(file.parent.name))
    return found


@pytest.mark.slow
def test_two_processes_resume(phantom: dict[str, Path], tmp_path: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    settings = {**killed.SETTINGS, "training.steps": 60}
    words = ["--preset=cpu", "--method=cooperative", "--seed=3", "--device=cpu", "--save-every=0"]
    words += [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]
    environment = {**ONE_THREAD, "GLOO_SOCKET_IFNAME": "lo"}
    whole, run = tmp_path / "whole", tmp_path / "run"
    begin: tuple[Any, ...] = (*torchrun, "coopseg", "train", "--data", phantom["acdc"], *words, "--out")
    subprocess.run((*begin, whole), env=environment, check=True, capture_output=True)
    process = subprocess.Popen(
        (*begin, run), env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (run / CHECKPOINT).is_file():
        assert process.poll() is None
        time.sleep(0.01)
    for pid in processes_naming(run):  # torchrun's workers, which would live on without it
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert not (run / "run.json").is_file()
    subprocess.run((*torchrun, "coopseg", "train", "--resume", run), env=environment, check=True)
    assert_same(run, whole)


def test_adapted_settings_are_kept_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are chosen once, before the first step; the scans are CT, so that spacing, crop and window are."""
    for seed, pixel in enumerate((1.7 / 3, 2.3 / 3, 0.7, 0.9)):
        x, y, _ = np.indices((48, 48, 2)) - 23.5
        label = (np.hypot(x, y) < 9).astype(np.uint8)
        image = np.random.default_rng(seed).normal(40, 15, x.shape).round() + 60 * label
        image[np.hypot(x, y) > 20] = -1000
        affine = np.diag([-pixel, -pixel, 5, 1])
        write_image(tmp_path / f"data/images/p{seed}.nii.gz", image, affine=affine, dtype=np.int16)
        write_image(tmp_path / f"data/labels/p{seed}.nii.gz", label, affine=affine, dtype=np.uint8)
    (tmp_path / "data/dataset.json").write_text('{"labels": {"liver": 1}}')
    few = {name: value for name, value in killed.SETTINGS.items() if not name.startswith("cases.")}
    asked: Any = {"preset": "cpu", "method": "cooperative", "settings": few, "device": "cpu", "adapt": True}

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    whole, run = (tmp_path / name for name in ("whole", "run"))
    with one_thread():
        train(tmp_path / "data", whole, **asked)
        with pytest.raises(Stopped):
            train(tmp_path / "data", run, **asked, progress=stop)
        before = (run / "request.json").read_bytes()
        monkeypatch.setattr(run_module, "adapt_request", None)
        resume(run)
    assert (run / "request.json").read_bytes() == before
    assert_same(run, whole)
    settings = [json.loads((folder / "run.json").read_text())["settings"] for folder in (run, whole)]
    assert settings[0] == settings[1]
    cases, usual = load_model(run).settings.cases, CaseSettings()
    assert cases.model_dump(mode="json") == settings[1]["cases"]
    assert cases.window is not None
    assert cases.spacing != usual.spacing
    assert cases.size != usual.size


FILLING = """
import resource, signal, sys
from coopseg.errors import CoopsegError
from coopseg.training.run import train
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails, as on a full disk
def fill(progress):
    if progress.step == 8:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    train(sys.argv[1], sys.argv[2], preset="cpu", method="cooperative", settings=SETTINGS, seed=3,
          device="cpu", save_every=0, progress=fill)
except CoopsegError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(
    phantom: dict[str, Path], tmp_path: Path, reference: Path
) -> None:
    run = tmp_path / "run"
    code = FILLING.replace("SETTINGS", repr(killed.SETTINGS))
    command = [sys.executable, "-c", code, str(phantom["acdc"]), str(run)]
    filled = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True)
    assert filled.returncode == 0, filled.stderr
    assert "cannot be written (File too large); make room, then `coopseg train --resume" in filled.stdout
    state = load_checkpoint(run / CHECKPOINT)
    assert state is not None
    assert state["step"] == 7
    assert not list(run.glob(".*.tmp"))
    killed.finish(phantom["acdc"], run)
    assert_same(run, reference)


@pytest.fixture(scope="module")
def killed_once(phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("killed") / "run"
    process = killed.start(phantom["acdc"], run, ("after replace", 6))
    assert killed.kill_after(process, 60) == -signal.SIGKILL
    return run


@pytest.fixture
def stopped(killed_once: Path, tmp_path: Path) -> Path:
    """A run that was killed when about half of it was done."""
    return shutil.copytree(killed_once, tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"settings": {"training.steps": 500}}, "setting training.steps: it began with 12, now given 500"),
        ({"settings": {"network.norm": "running"}}, "setting network.norm: it began with batch"),
        ({"method": "standard"}, "setting "),
        ({"seed": 4}, "setting seed: it began with 3, now given 4"),
        ({"precision": "bf16"}, "setting precision"),
    ],
)
def test_a_changed_setting_is_named_and_changes_nothing(
    stopped: Path, given: dict[str, Any], named: str
) -> None:
    def held() -> dict[Path, bytes]:
        files = [file for file in stopped.rglob("*") if file.is_file() and file.name != LOCK]
        return {file: file.read_bytes() for file in files}

    before = held()
    with pytest.raises(CoopsegError, match="cannot resume with another " + named):
        resume(stopped, **given)
    assert before == held()


def test_changed_scans_and_patients_are_refused(
    stopped: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    data = shutil.copytree(phantom["acdc"], tmp_path / "data")
    request = json.loads((stopped / "request.json").read_text())
    patient = request["same"]["split"]["train"][0]
    image = next((data / patient).glob("*_frame01.nii.gz"))
    scan = read_image(image)
    write_image(image, scan.data[::-1], affine=scan.affine)
    with pytest.raises(CoopsegError, match="the scans or labels of its patients have changed"):
        resume(stopped, data=data)
    shutil.rmtree(data / request["same"]["split"]["test"][0])
    with pytest.raises(CoopsegError, match="cannot resume with another split t"):
        resume(stopped, data=data)


def test_a_data_folder_that_has_moved_is_told(
    stopped: Path, phantom: dict[str, Path], tmp_path: Path, reference: Path
) -> None:
    data = shutil.copytree(phantom["acdc"], tmp_path / "data")
    with one_thread():
        resume(stopped, data=data)
        assert_same(stopped, reference)
        assert resume(stopped, data=data) == stopped  # finished: left as it is


def test_other_threads_are_noted(stopped: Path) -> None:
    with one_thread():
        path = stopped / "request.json"
        request = json.loads(path.read_text())
        request["like"]["threads"] = 7
        assert "trained_axis" not in request["same"]["setting"]["cases"]  # earlier requests have none
        path.write_text(json.dumps(request))
        resume(stopped)
    warnings = json.loads((stopped / "run.json").read_text())["warnings"]
    assert any("resumed with threads 1 instead of 7" in warning for warning in warnings)


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_new_training_does_not_write_over_an_unfinished_one(
    stopped: Path, phantom: dict[str, Path]
) -> None:
    with pytest.raises(CoopsegError, match=r"did not end; go on with `coopseg train --resume"):
        train(
            phantom["acdc"],
            stopped,
            preset="cpu",
            method="cooperative",
            settings=killed.SETTINGS,
            device="cpu",
        )


def test_two_processes_do_not_train_in_one_folder(
    stopped: Path, phantom: dict[str, Path], tmp_path: Path, hold: Callable[[Path], int]
) -> None:
    holder = hold(stopped)
    with pytest.raises(CoopsegError, match=rf"^{stopped}: process {holder} on .*, works in it; wait"):
        resume(stopped)
    new = tmp_path / "new"
    new.mkdir()
    for folder, process in ((stopped, holder), (new, hold(new))):  # one that has begun, one that is about to
        with pytest.raises(CoopsegError, match=rf"^{folder}: process {process} on .*, works in it; wait"):
            train(phantom["acdc"], folder, preset="cpu", settings=killed.SETTINGS, device="cpu")
    assert [path.name for path in new.iterdir()] == [".lock"]


def test_two_processes_that_begin_at_once(
    phantom: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the folder empty; while the second still reads its scans, the first trains to its end."""
    first = tmp_path / "run" / "run.json"

    def read(*given: Any) -> Any:
        first.parent.mkdir()
        first.write_text("of the first")
        return read_inputs(*given)

    monkeypatch.setattr(run_module, "read_inputs", read)
    with pytest.raises(CoopsegError, match="run: exists and is not an empty folder"):
        train(phantom["acdc"], tmp_path / "run", preset="cpu", settings=killed.SETTINGS, device="cpu")
    assert first.read_text() == "of the first"
    assert not (tmp_path / "run" / "request.json").exists()


@pytest.mark.parametrize(
    "changes",
    [{"method": "evil:Run"}, {"method": "gin+evil:Run"}, {"settings": {"rivals.use": ["evil:Run"]}}],
)
def test_nothing_that_a_folder_names_is_imported(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('code ran')")
    record = json.loads((stopped / "request.json").read_text())
    record["arguments"] |= changes
    (stopped / "request.json").write_text(json.dumps(record))
    says = r"^.*request.json: asks for the code 'evil:Run', .*; if you trust it, add --method evil:Run$"
    given: Any
    for given in ({}, {"settings": {"training.steps": 3}}):
        with pytest.raises(CoopsegError, match=says):
            resume(stopped, **given)
    with pytest.raises(CoopsegError, match="cannot resume with another setting"):
        resume(stopped, method="cooperative", settings={"rivals.use": ["evil:Run"]})


@pytest.mark.parametrize("damage", [b"", b"{}", b"[" * 100_000, b"\xff\x00", b'{"arguments": {}, "same": 1}'])
def test_a_damaged_request_is_refused(stopped: Path, damage: bytes) -> None:
    (stopped / "request.json").write_bytes(damage)
    with pytest.raises(CoopsegError, match="damaged, it does not say what was trained"):
        resume(stopped)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.clear(),
        lambda state: state.pop("optimiser"),
        lambda state: state.update(step=10**9),
        lambda state: state.update(networks={}),
        lambda state: state.update(processes=[]),
        lambda state: state.update(history={"a": 1}),
    ],
)
def test_a_checkpoint_that_lacks_its_parts_is_refused(stopped: Path, change: Callable[[Any], Any]) -> None:
    state: Any = load_checkpoint(stopped / CHECKPOINT)
    change(state)
    save_checkpoint(stopped / CHECKPOINT, state)
    with pytest.raises(CoopsegError, match=r"checkpoint.pt: is not of this training \(.*\); remove it"):
        resume(stopped)
    assert not (stopped / "run.json").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match=f"^{tmp_path}: holds no training; --resume takes the --out of"):
        resume(tmp_path)
    with pytest.raises(CoopsegError, match=f"^{tmp_path}/none: no such run; --resume takes the --out of"):
        resume(tmp_path / "none")
