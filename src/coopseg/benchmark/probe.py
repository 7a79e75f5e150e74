"""Times a training step of a row, alone on the machine: python -m coopseg.benchmark.probe BENCH ROW."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from coopseg.benchmark.data import open_data
from coopseg.benchmark.executor import exit_code, tether
from coopseg.benchmark.grid import TIMEKEEPER
from coopseg.benchmark.request import Request, read_request
from coopseg.errors import CoopsegError
from coopseg.results.records import Amount, Record, Whole, read_record
from coopseg.results.study import WHOLE
from coopseg.scans.files import write_json
from coopseg.training.batches import SliceStore
from coopseg.training.inputs import make_request, read_inputs
from coopseg.training.loop import Loop
from coopseg.training.processes import keep_freed_memory, make_fabric, peak_memory_gb

PROBES = "probes"
WARM_UP, TIMED = 3, 20  # steps


class Probe(Record):
    """Holds the cost of a row's steps, from BENCH/probes/ROW.json; None is what was not measured.

    seconds_per_step, spread: median and interquartile range of `steps` steps. peak_memory_gb: the most memory
    that the process has held. steps_of_training: how many a whole training has. error: why no step was timed.
    """

    row: str
    seconds_per_step: Amount | None = None
    spread: Amount | None = None
    peak_memory_gb: Amount | None = None
    steps: Whole | None = None
    steps_of_training: Whole | None = None
    threads: int | None = None
    device: str | None = None
    precision: str | None = None
    machine: str | None = None
    error: str | None = None


def main(bench: Path, row: str, *trusted: str) -> int:
    """Writes BENCH/probes/ROW.json, which says how it failed if it did; returns the exit code."""

    def write(probe: Probe) -> None:
        write_json(probe_file(bench, row), probe.model_dump(exclude_none=True))

    def failed(error: Exception) -> None:
        write(Probe(row=row, error=" ".join(str(error).split()) or type(error).__name__))

    return exit_code(lambda: write(time_steps(bench, read_request(bench, trusted=trusted), row)), failed)


def time_steps(bench: Path, request: Request, row: str) -> Probe:
    """Times TIMED steps; for a row that begins without cooperating, steps in which the networks do."""
    draw = next((block.draws[0] for block in request.blocks if row in block.methods), None)
    draw = draw or next(iter(request.draws), WHOLE)
    data = open_data(request)
    asked = make_request(
        data=data.own.root, preset=request.preset, method=row, layout=request.layout, labels=request.labels,
        split=data.write_split(bench, draw), settings=request.settings,
        device=request.device, precision=request.precision,
    )  # fmt: skip
    fabric = make_fabric(request.device, request.precision)
    inputs = read_inputs(asked)
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
    return Probe(
        row=row,
        seconds_per_step=median,
        spread=high - low,
        peak_memory_gb=peak_memory_gb(fabric.device),
        steps=TIMED,
        steps_of_training=loop.steps,
        threads=torch.get_num_threads(),
        device=str(fabric.device),
        precision=request.precision,
        machine=platform.node(),
    )


def steps_in_equal_time(bench: Path, row: str, steps: int) -> int:
    """Returns how many steps of a row take as long as `steps` of the timekeeper, by their probes; at least 1.

    Raises CoopsegError if either was not timed.
    """
    own, other = (read_probe(bench, name).seconds_per_step for name in (row, TIMEKEEPER))
    if not own or not other:
        raise CoopsegError(f"{probe_file(bench, TIMEKEEPER if own else row)}: no step was timed; see there")
    return max(1, round(float(steps * other / own)))


def read_probe(bench: Path, row: str) -> Probe:
    """Reads what was measured of a row, all None if it was not probed."""
    path = probe_file(bench, row)
    advice = "remove it to have the steps timed again"
    return read_record(Probe, path, advice) if path.is_file() else Probe(row=row)


def probe_file(bench: Path, row: str) -> Path:
    """Returns the file of a row's probe."""
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
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
