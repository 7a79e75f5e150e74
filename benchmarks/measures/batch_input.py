"""Times the input of a training step, from the order of slices to noise and masks, and its share of the step.

Within real steps, where it meets the caches as the networks left them, and alone, where it is quicker.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from measures.timing import timed

from coopseg.config.resolve import resolve_settings
from coopseg.config.settings import Settings
from coopseg.networks.native import kernels
from coopseg.training import loop as training_loop
from coopseg.training.augmentation import reach
from coopseg.training.batches import SliceStore, make_batch
from coopseg.training.inputs import ValidationSet
from coopseg.training.loop import Loop
from coopseg.training.processes import keep_freed_memory, make_fabric

NAMES = ("background", "RV", "MYO", "LV")


def measure(
    *,
    preset: str = "miccai2021",
    method: str = "cooperative",
    precision: str = "32",
    slices: int = 200,
    repeats: int = 6,
    threads: int = 2,
) -> dict[str, Any]:
    """Medians of `repeats` steps on `slices` made-up slices; alone of twenty times as many."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    settings = resolve_settings(preset=preset, method=method, precision=precision)
    training = made_up_loop(settings, slices, make_fabric("cpu", precision))
    with ExitStack() as watch:
        parts = {
            "order": watch.enter_context(watched(training.sampler, "next")),
            "batch": watch.enter_context(watched(training_loop, "make_batch")),
            "choice": watch.enter_context(watched(training.step, "sample")),
        }
        steps = timed(training.train_step, repeats)
    inputs = [sum(calls) for calls in zip(*parts.values(), strict=True)][-repeats:]  # without the warm-up
    return {
        "median_s": statistics.median(inputs),
        "step_s": steps["median_s"],
        "share": sum(inputs) / sum(steps["all_s"]),
        "parts_s": {name: statistics.median(calls[-repeats:]) for name, calls in parts.items()},
        "kernels": str(kernels()),
        "alone_s": timed(lambda: draw_input(training), 20 * repeats)["median_s"],
    }


def draw_input(training: Loop) -> None:
    """Does what `Loop.train_step` does before the networks are asked."""
    images, _ = make_batch(training.store, training.sampler.next(), training.settings, training.generator)
    training.step.sample(images.contiguous(memory_format=torch.channels_last), training.generator)


def made_up_loop(settings: Settings, slices: int, fabric: Fabric) -> Loop:
    """Makes a training on noise; nothing of it is written."""
    generator = torch.Generator().manual_seed(0)
    canvas = reach(settings.cases.size, settings.augmentation)
    images = torch.rand((slices, 1, *canvas), generator=generator)
    labels = torch.randint(len(NAMES), (slices, *canvas), generator=generator, dtype=torch.uint8)
    store = SliceStore.of_crops(images, labels, tuple(map(str, range(slices))))
    store = replace(store, size=settings.cases.size)
    validation = ValidationSet((), (), NAMES)
    return Loop(settings=settings, store=store, validation=validation, out=Path("unused"), fabric=fabric)


@contextmanager
def watched(owner: Any, name: str) -> Iterator[list[float]]:
    """Collects the seconds on the clock of every call of `owner.name` within the block."""
    function, seconds = getattr(owner, name), []

    def clocked(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        found = function(*args, **options)
        seconds.append(time.perf_counter() - start)
        return found

    setattr(owner, name, clocked)
    try:
        yield seconds
    finally:
        setattr(owner, name, function)
