"""One measurement in a process of its own, so that `ru_maxrss` is that measurement's and nobody else's.

    python benchmarks/measure.py import
    python benchmarks/measure.py step  '{"preset": "miccai2021", "method": "cooperative", "precision": "32"}'
    python benchmarks/measure.py predict '{"preset": "miccai2021", "refinements": 1}'

Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any


def memory_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(function: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """One run to warm up, then `repeats`; seconds."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return {"median_s": statistics.median(seconds), "all_s": seconds}


def measure_import() -> dict[str, Any]:
    """What Python, torch and the package take before any work."""
    start = time.perf_counter()
    import coopseg.training.loop  # noqa: F401

    return {"median_s": time.perf_counter() - start}


def measure_step(
    *, preset: str, method: str, precision: str = "32", repeats: int = 6, threads: int = 2
) -> dict[str, Any]:
    """A whole optimiser step: drawing masks and noise, both passes with their backward, Adam."""
    import torch

    from coopseg.config.resolve import resolve_settings
    from coopseg.networks.cooperative import Networks
    from coopseg.training.memory import keep_freed_memory
    from coopseg.training.optimiser import make_optimiser
    from coopseg.training.step import CooperativeStep

    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    settings = resolve_settings(preset=preset, method=method, precision=precision)
    networks = Networks(classes=4, settings=settings.network).to(memory_format=torch.channels_last)
    step, optimiser = CooperativeStep(networks, settings), make_optimiser(networks, settings.training)
    generator = torch.Generator().manual_seed(0)
    size = (settings.training.batch_size, 1, *settings.cases.size)
    images = torch.rand(size, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(4, (size[0], *size[2:]), generator=generator)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            step(images, labels, step.sample(images, generator))
        optimiser.step()

    return timed(run, repeats)


def measure_predict(
    *, preset: str, refinements: int, slices: int = 20, repeats: int = 5, threads: int = 2
) -> dict:
    """Class probabilities of a volume that is in memory and prepared."""
    import numpy as np
    import torch

    from coopseg.cases.prepare import prepare
    from coopseg.config.resolve import resolve_settings
    from coopseg.inference.predictor import Predictor
    from coopseg.networks.cooperative import Networks
    from coopseg.scans.types import Scan

    torch.set_num_threads(threads)
    settings = resolve_settings(preset=preset)
    networks = Networks(classes=4, settings=settings.network).to(memory_format=torch.channels_last).eval()
    predictor = Predictor(networks, settings, refinements=refinements)
    side = settings.cases.size[0]
    volume = np.random.default_rng(0).random((side, side, slices), np.float32)
    affine = np.diag([settings.cases.spacing, settings.cases.spacing, 10, 1]).astype(float)
    case = prepare(Scan(volume, affine), settings.cases)
    result = timed(lambda: predictor.probabilities(case), repeats)
    return {**result, "slices_per_s": slices / result["median_s"]}


if __name__ == "__main__":
    kind, arguments = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    measures: dict[str, Callable[..., dict[str, Any]]] = {
        "import": measure_import,
        "step": measure_step,
        "predict": measure_predict,
    }
    print(json.dumps({**measures[kind](**arguments), "peak_gb": memory_gb()}))
