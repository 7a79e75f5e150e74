"""Times class probabilities of a volume in memory: networks as they train, folded, by scan statistics."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from coopseg.cases.prepare import Case, prepare
from coopseg.config.resolve import resolve_settings
from coopseg.inference.model import Model
from coopseg.inference.predictor import Predictor
from coopseg.networks.cooperative import Networks
from coopseg.networks.fold import fold
from coopseg.scans.types import Scan

NAMES = ("background", "RV", "MYO", "LV")


def measure(
    *,
    preset: str,
    refinements: int,
    precision: str = "32",
    scan_statistics: float | None = None,
    slices: int = 20,
    repeats: int = 9,
    threads: int = 2,
) -> dict[str, Any]:
    """Slices a second of each way to predict; `slices_per_s` is by scan statistics where K is given."""
    torch.set_num_threads(threads)
    model = random_model(preset)
    how: dict[str, Any] = {"refinements": refinements, "precision": precision}
    # The fast one first: making it also lets all keep freed memory.
    fast = Predictor.from_model(model, **how)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=precision == "bf16")
    plain = Predictor(model.networks, model.settings, refinements=refinements, autocast=autocast)
    predictors = {"plain": plain, "folded": fast}
    if scan_statistics is not None:
        predictors["mixed"] = Predictor.from_model(model, scan_statistics=scan_statistics, **how)
    case = random_case(model, slices)
    runs = {kind: partial(predictor.probabilities, case) for kind, predictor in predictors.items()}
    seconds = alternate(runs, repeats)
    last = list(seconds.values())[-1]
    gflop = gflop_a_slice(model, refinements)
    return {
        "median_s": last,
        "slices_per_s": slices / last,
        **{f"{kind}_slices_per_s": slices / value for kind, value in seconds.items()},
        "gflop_a_slice": gflop,
        "gflop_per_s": gflop * slices / last,
    }


def random_model(preset: str) -> Model:
    """Makes a model of random weights, ready to predict."""
    torch.manual_seed(0)
    settings = resolve_settings(preset=preset, method="cooperative")
    networks = Networks(classes=len(NAMES), **dict(settings.network))
    networks.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
    return Model(networks, settings, NAMES, Path("random"), "")


def random_case(model: Model, slices: int) -> Case:
    """Makes a case of noise with as many slices."""
    cases = model.settings.cases
    volume = np.random.default_rng(0).random((*cases.size, slices), np.float32)
    return prepare(Scan(volume, np.diag([cases.spacing or 1.0, cases.spacing or 1.0, 10, 1])), cases)


def alternate(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Returns median seconds of each; all run in turn, to meet the same moments of the machine."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def gflop_a_slice(model: Model, refinements: int) -> float:
    """Counts the convolutions that are left after folding, a product and a sum as two."""
    assert isinstance(model.networks, Networks)
    image = torch.zeros(1, 1, *model.settings.cases.size)
    with FlopCounterMode(display=False) as counter:
        fold(model.networks)(image, refinements=refinements)
    return float(counter.get_total_flops() / 1e9)
