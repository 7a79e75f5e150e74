"""A whole optimiser step: drawing masks and noise, both passes with their backward, Adam."""

from __future__ import annotations

from typing import Any

import torch
from measures.timing import timed

from coopseg.config.resolve import resolve_settings
from coopseg.networks.cooperative import Networks
from coopseg.training.memory import keep_freed_memory
from coopseg.training.optimiser import make_optimiser
from coopseg.training.step import CooperativeStep


def measure(
    *, preset: str, method: str, precision: str = "32", repeats: int = 6, threads: int = 2
) -> dict[str, Any]:
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
