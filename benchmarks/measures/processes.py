"""Measures images a second of training with one process and with two that average gradients through gloo.

The processes share this machine's cores, so two of them cannot be faster than one by more than what one
leaves unused; what they show is the price of averaging. Preset `cpu`: 128 x 128, batch 8 in each process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lightning_fabric import Fabric
from measures.batch_input import made_up_loop, watched
from measures.timing import timed
from torch import nn

from coopseg.config.resolve import resolve_settings
from coopseg.networks.native import kernels
from coopseg.training import loop as training_loop
from coopseg.training.processes import average_gradients, gather, keep_freed_memory, make_fabric

BENCHMARKS = Path(__file__).parents[1]
SETUPS = {  # processes, threads of each
    "one process, one thread": (1, 1),
    "one process, two threads": (1, 2),
    "two processes, one thread each": (2, 1),
}


def measure(
    *, preset: str = "cpu", precision: str = "32", slices: int = 100, repeats: int = 8
) -> dict[str, Any]:
    """Returns what `train_here` found for each of SETUPS."""
    arguments = json.dumps({"preset": preset, "precision": precision, "slices": slices, "repeats": repeats})
    found = {name: start(*setup, arguments) for name, setup in SETUPS.items()}
    return {
        "median_s": found["two processes, one thread each"]["step_s"],
        "kernels": str(kernels()),
        "setups": found,
    }


def start(processes: int, threads: int, arguments: str) -> dict[str, float]:
    """This module under torchrun, as a user would start a training; the answer of the first process."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    answer = subprocess.run(
        [sys.executable, "-m", *torchrun, "-m", "measures.processes", arguments],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"},
        cwd=BENCHMARKS,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return seconds


def train_here(*, preset: str, precision: str, slices: int, repeats: int) -> dict[str, float]:
    """Returns mean seconds a step, images a second of all processes, shares of waiting and averaging."""
    keep_freed_memory()
    fabric = make_fabric("cpu", precision)
    settings = resolve_settings(preset=preset, method="cooperative", precision=precision)
    training = made_up_loop(settings, slices, fabric)
    with (
        patch.object(training_loop, "average_gradients", wait_and_average),
        watched(fabric, "barrier") as waits,
        watched(training_loop, "average_gradients") as exchanges,
    ):
        seconds = sum(timed(training.train_step, repeats)["all_s"])
    waiting, exchanging = (sum(calls[-repeats:]) for calls in (waits, exchanges))  # without the warm-up
    ranks = gather(fabric, (waiting / seconds, (exchanging - waiting) / seconds))
    return {
        "step_s": seconds / repeats,
        "images_per_s": settings.training.batch_size * fabric.world_size * repeats / seconds,
        "waiting_share": sum(share for share, _ in ranks) / len(ranks),
        "averaging_share": sum(share for _, share in ranks) / len(ranks),
    }


def wait_and_average(fabric: Fabric, networks: nn.Module) -> None:
    """Waits first, so that waiting for the slower process is not taken for communication."""
    fabric.barrier()
    average_gradients(fabric, networks)


if __name__ == "__main__":
    answer = train_here(**json.loads(sys.argv[1]))
    if os.environ["RANK"] == "0":
        print(json.dumps(answer))
