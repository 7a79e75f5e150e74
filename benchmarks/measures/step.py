"""Times a whole optimiser step: drawing masks and noise, both passes with their backward, Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from measures.timing import timed
from plain import plain_step

from coopseg.config.resolve import resolve_settings
from coopseg.config.settings import Settings
from coopseg.networks.cooperative import Networks
from coopseg.networks.native import kernels
from coopseg.training.optimiser import make_optimiser
from coopseg.training.processes import keep_freed_memory
from coopseg.training.step import CooperativeStep


def make_step(settings: Settings, *, plain: bool = False) -> Callable[[], None]:
    """Makes one step of the kind wanted, on made-up images, each call on the same ones."""
    torch.manual_seed(0)
    layout = torch.contiguous_format if plain else torch.channels_last
    networks = Networks(classes=4, **dict(settings.network)).to(memory_format=layout)  # type: ignore[call-overload]
    step, optimiser = CooperativeStep(networks, settings), make_optimiser(networks, settings.training)
    generator = torch.Generator().manual_seed(0)
    size = (settings.training.batch_size, 1, *settings.cases.size)
    images = torch.rand(size, generator=generator).contiguous(memory_format=layout)
    labels = torch.randint(4, (size[0], *size[2:]), generator=generator)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        choice = step.sample(images, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            if plain:
                plain_step(networks, settings, images, labels, choice)
            else:
                step.backward(images, labels, choice)
        optimiser.step()

    return run


def measure(
    *,
    preset: str,
    method: str,
    precision: str = "32",
    plain: bool = False,
    repeats: int = 6,
    threads: int = 2,
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Times a step. plain: the reference of `plain.py`, which keeps no memory and rearranges nothing."""
    torch.set_num_threads(threads)
    if not plain:
        keep_freed_memory()
    chosen = resolve_settings(preset=preset, method=method, precision=precision, overrides=settings or {})
    found = timed(make_step(chosen, plain=plain), repeats)
    return {**found, "images": chosen.training.batch_size, "kernels": "plain" if plain else str(kernels())}
