"""Two gloo processes on this machine: equal ranks, and the gradients of one process on the joined batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).with_name("two_processes.py")


def launch(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, str(SCRIPT), *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_ranks_end_bit_equal_and_draw_apart(phantom, tmp_path):
    launch("train", phantom["acdc"], tmp_path)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert not torch.equal(first["draws"], second["draws"])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2


def test_averaged_gradients_are_those_of_the_joined_batch(tmp_path):
    # With running statistics no sample sees another; with batch statistics each process has its own.
    launch("gradients", tmp_path)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"gradients{rank}.pt", weights_only=True)
        a, b = (torch.cat([g.flatten() for g in found[key].values()]) for key in ("averaged", "alone"))
        assert (a - b).norm() <= 1e-9 * b.norm()
