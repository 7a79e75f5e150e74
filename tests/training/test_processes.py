"""Processes: equal ranks, signals that are noted once, memory that is kept and counted.

Two gloo processes on this machine end with equal weights, and average to the gradients of one process on the
joined batch.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from coopseg.training.processes import StopSignals, peak_memory_gb

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def folder(phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes, started as a user would, have left their answers."""
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(SCRIPT), str(phantom["acdc"]), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COOPSEG_NATIVE": "0", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture
def ranks(folder: Path) -> list[Any]:
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def flat(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def test_averaged_gradients_are_those_of_the_joined_batch(ranks: list[Any]) -> None:
    # With running statistics no sample sees another; with batch statistics each process has its own.
    for found in ranks:
        averaged, alone, mine = (flat(found[key]) for key in ("averaged", "alone", "mine"))
        assert (averaged - alone).norm() <= 1e-9 * alone.norm()
        assert (mine - alone).norm() > 0.1 * alone.norm()


def test_ranks_end_with_equal_weights_and_running_statistics(ranks: list[Any], folder: Path) -> None:
    first, second = (found["weights"] for found in ranks)
    assert any("running_var" in name for name in first)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads((folder / "run" / "run.json").read_text())["processes"] == 2


def test_every_rank_draws_its_own_masks_and_noise(ranks: list[Any]) -> None:
    first, second = (found["masks"] for found in ranks)
    assert len(first) == len(second) == 5
    for ours, theirs in zip(first, second, strict=True):
        assert not torch.equal(ours["fraction"], theirs["fraction"])
        assert not torch.equal(ours["priority"], theirs["priority"])
        assert not torch.equal(ours["noise"], theirs["noise"])


def test_the_first_rank_alone_writes(ranks: list[Any], folder: Path) -> None:
    names = {Path(path).name for path in ranks[0]["written"]}
    assert {"run", "log.jsonl"} <= names
    assert any("last.safetensors" in name for name in names)
    assert ranks[1]["written"] == []
    files = {path.name for path in (folder / "run").iterdir()} - {"tensorboard"}
    weights = {"last.safetensors", "best_ftn.safetensors", "best_stn.safetensors"}
    assert files == weights | {".lock", "request.json", "run.json", "log.jsonl", "hard_examples"}


def test_a_used_folder_is_refused_by_every_rank(ranks: list[Any]) -> None:
    assert all("not an empty folder" in found["refused"] for found in ranks)


def test_what_breaks_on_one_rank_stops_all_and_is_named(ranks: list[Any], folder: Path) -> None:
    assert ranks[0]["broken"] == ranks[1]["broken"]
    assert "not finite at step 2" in ranks[0]["broken"]
    record = json.loads((folder / "broken" / "nonfinite.json").read_text())
    assert record == {"step": 2, "slices": ranks[1]["slices"]}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        assert signals.received == number
    assert signal.getsignal(number) is before


def test_the_second_one_has_its_usual_effect() -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signals.received == signal.SIGTERM


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen = []

    def work() -> None:
        with StopSignals() as signals:
            seen.append((signals.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, signal.getsignal(signal.SIGTERM))]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_glibc_takes_the_settings() -> None:
    # In a process of its own: the setting cannot be taken back.
    code = "from coopseg.training.processes import keep_freed_memory; print(keep_freed_memory())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True"


def test_the_peak_is_at_least_what_is_held() -> None:
    held = torch.ones(2**26)
    assert peak_memory_gb(torch.device("cpu")) > held.nbytes / 2**30


def test_the_peak_of_the_program_that_started_this_one_does_not_count() -> None:
    """Linux hands it on in ru_maxrss."""
    own = "import torch; from coopseg.training.processes import *; print(peak_memory_gb(torch.device('cpu')))"
    large = f"import subprocess, sys; held = b'x' * 2**31; subprocess.run([sys.executable, '-c', {own!r}])"
    done = subprocess.run([sys.executable, "-c", large], check=True, capture_output=True, text=True)
    assert 0.05 < float(done.stdout) < 1.5
