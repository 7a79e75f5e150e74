"""The fast step against the plain one: the same choice, the same gradients, the same running statistics."""

from __future__ import annotations

import copy
import statistics
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from plain import plain_step
from rings import rings
from torch import Tensor

from coopseg.config.resolve import resolve_settings
from coopseg.networks.cooperative import NETWORKS, Networks
from coopseg.training.step import CooperativeStep, StepResult


def both(
    preset: str,
    *,
    dtype: torch.dtype,
    width: int,
    side: int,
    batch: int = 4,
    precision: str = "32",
    steps: int = 0,
    scheme: str = "mixed",
    seed: int = 3,
) -> tuple[Networks, Networks, StepResult, dict[str, Any]]:
    """Networks after a plain and after a fast step from the same weights, with the same choice."""
    overrides = {"network.width": width, "latent.scheme": scheme}
    settings = resolve_settings(preset=preset, method="cooperative", overrides=overrides)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    networks = Networks(classes=4, **dict(settings.network)).to(dtype)
    image, label = rings(generator, batch, side)
    image = image.to(dtype)
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fast = CooperativeStep(networks, settings)
    optimiser = torch.optim.Adam(networks.parameters(), 2e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        fast.backward(image, label, fast.sample(image, generator))
        optimiser.step()
    networks.zero_grad()
    reference = copy.deepcopy(networks)
    reference.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    choice = fast.sample(image, generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        result = fast.backward(image.contiguous(memory_format=torch.channels_last), label, choice)
    plain = plain_step(reference, settings, image, label, choice)
    return networks, reference, result, plain


def gradients(ours: Networks, reference: Networks, network: str) -> tuple[Tensor, Tensor]:
    """Both gradients of a network, a missing one as zeros: that of a bias which a norm undoes."""
    pairs = zip(getattr(ours, network).parameters(), getattr(reference, network).parameters(), strict=True)
    sides = zip(*((p.grad, q.grad) for p, q in pairs if q.grad is not None), strict=True)
    fast, plain = (list(side) for side in sides)
    fast = [torch.zeros_like(q) if p is None else p for p, q in zip(fast, plain, strict=True)]
    return torch.cat([g.flatten() for g in fast]), torch.cat([g.flatten() for g in plain])


@pytest.mark.parametrize("preset", ["default", "miccai2021"])
def test_gradients_and_statistics_are_those_of_the_plain_step(preset: str) -> None:
    ours, reference, result, plain = both(preset, dtype=torch.float64, width=8, side=48)
    assert float(result.losses["total"]) == pytest.approx(float(plain["loss"]), rel=1e-5)
    for network in NETWORKS:
        fast, slow = gradients(ours, reference, network)
        assert (fast - slow).norm() <= 1e-9 * slow.norm(), network
    for name, value in ours.named_buffers():
        torch.testing.assert_close(value, reference.get_buffer(name), rtol=1e-9, atol=1e-12)


def test_float32_is_as_near_to_float64_as_the_plain_step_is() -> None:
    # A rounding error that turns one activation's sign moves a gradient of this size by 1e-4 to 1e-2,
    # in either step, hence the mean over draws and networks and the plain step's own error beside it.
    fast: list[float] = []
    plain: list[float] = []
    for seed in range(8):
        kind: dict[str, Any] = {"width": 4, "side": 32, "scheme": "dropout", "seed": seed}
        _, exact, _, _ = both("default", dtype=torch.float64, **kind)
        ours, reference, _, _ = both("default", dtype=torch.float32, **kind)
        for network in NETWORKS:
            for found, networks in ((fast, ours), (plain, reference)):
                close, truth = gradients(networks, exact, network)
                found.append(float((close - truth).norm() / truth.norm()))
    assert statistics.mean(fast) <= max(1e-4, 3 * statistics.mean(plain)), (fast, plain)


@pytest.mark.slow
def test_bf16_gradients_point_the_same_way() -> None:
    # dropout masks: after rounding, targeted ones may take another channel, a different but equal step
    ours, reference, _, _ = both(
        "default",
        dtype=torch.float32,
        width=16,
        side=96,
        batch=8,
        precision="bf16",
        steps=20,
        scheme="dropout",
    )
    for network in NETWORKS:
        fast, slow = gradients(ours, reference, network)
        assert F.cosine_similarity(fast, slow, dim=0) > 0.99, network
