"""What a step of a row costs, alone on the machine: python -m coopseg.benchmark.probe BENCH ROW."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coopseg.benchmark.data import open_data, write_draw
from coopseg.benchmark.grid import TIMEKEEPER
from coopseg.benchmark.records import write_json
from coopseg.benchmark.request import WHOLE, Request, read_request
from coopseg.benchmark.tethered import SIGNALLED, tether
from coopseg.errors import CoopsegError, Stopped
from coopseg.text import read_json
from coopseg.training.batches import SliceStore
from coopseg.training.inputs import Arguments, read_inputs
from coopseg.training.loop import Loop
from coopseg.training.memory import keep_freed_memory, peak_memory_gb
from coopseg.training.run import make_fabric

PROBES = "probes"
WARM_UP, TIMED = 3, 20  # steps


def main(bench: Path, row: str) -> int:
    """Write BENCH/probes/ROW.json; the exit code. Where it fails, the file says how."""
    path = probe_file(bench, row)
    try:
        write_json(path, {"row": row, **time_steps(bench, read_request(bench), row)})
    except Stopped as stopped:
        return SIGNALLED + stopped.signal
    except Exception as error:
        traceback.print_exc()
        write_json(path, {"row": row, "error": " ".join(str(error).split()) or type(error).__name__})
        return 1
    return 0


def time_steps(bench: Path, request: Request, row: str) -> dict[str, Any]:
    """Median and interquartile range of TIMED steps, and the most memory this process has held.

    Steps are those in which the networks cooperate, where a row begins without.
    """
    draw = next((block.draws[0] for block in request.blocks if row in block.methods), None)
    draw = draw or next(iter(request.draws), WHOLE)
    dataset = open_data(request)
    arguments = Arguments.of(
        data=dataset.root, preset=request.preset, method=row, layout=request.layout, labels=request.labels,
        split=write_draw(bench, request, draw, dataset), settings=request.settings, seed=0,
        device=request.device, precision=request.precision, cache=None,
    )  # fmt: skip
    fabric = make_fabric(request.device, request.precision)
    inputs = read_inputs(arguments)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as unused:
        loop = Loop(
            settings=inputs.settings,
            store=SliceStore.from_cases(inputs.training, inputs.settings, fabric.device),
            validation=inputs.validation, out=Path(unused), fabric=fabric,
        )  # fmt: skip
        loop.alone = 0
        seconds = [_time_step(loop) for _ in range(WARM_UP + TIMED)][WARM_UP:]
    low, median, high = np.percentile(seconds, [25, 50, 75]).tolist()
    return {
        "seconds_per_step": median,
        "spread": high - low,
        "peak_memory_gb": peak_memory_gb(fabric.device),
        "steps": TIMED,
        "steps_of_training": loop.steps,
        "threads": torch.get_num_threads(),
        "device": str(fabric.device),
        "precision": request.precision,
        "machine": platform.node(),
    }


def steps_in_equal_time(bench: Path, row: str, steps: int) -> int:
    """How many steps of a row take as long as `steps` of the timekeeper, by their probes; 1 at least.

    Raises CoopsegError where either was not measured.
    """
    own, other = (read_probe(bench, name).get("seconds_per_step") for name in (row, TIMEKEEPER))
    if not own or not other:
        raise CoopsegError(f"{probe_file(bench, TIMEKEEPER if own else row)}: no step was timed; see there")
    return max(1, round(float(steps * other / own)))


def read_probe(bench: Path, row: str) -> dict[str, Any]:
    """What was measured of a row, or nothing."""
    path = probe_file(bench, row)
    return read_json(path) if path.is_file() else {}


def probe_file(bench: Path, row: str) -> Path:
    """Where the cost of a row lies."""
    return bench / PROBES / f"{row.replace(':', '_').replace('/', '_')}.json"


def _time_step(loop: Loop) -> float:
    _synchronise(loop.fabric.device)
    begun = time.perf_counter()
    loop.train_step()
    _synchronise(loop.fabric.device)
    loop.done += 1
    return time.perf_counter() - begun


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    tether()
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
