"""Terms that a pass takes beside its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coopseg.config.resolve import resolve_settings
from coopseg.networks.cooperative import Networks
from coopseg.training.losses import Ledger, soft_dice_loss
from coopseg.training.passes import Further, Passes, Truth


def test_dice_joins_every_pass_by_its_weight() -> None:
    torch.manual_seed(0)
    image, label = torch.rand(2, 1, 32, 32).double(), torch.randint(3, (2, 32, 32))
    found: list[Any] = []
    for dice in (0.0, 0.7):
        settings = resolve_settings(overrides={"network.width": 2, "losses.dice": dice})
        torch.manual_seed(0)
        networks, ledger = Networks(classes=3, **dict(settings.network)).double(), Ledger()
        Passes(networks, settings).ftn(
            image, Truth(image, label), ledger, joint=False, prefix="x_", scale=0.5
        )
        found.append((ledger.losses, networks.segmentation_decoder.out.weight.grad, networks))
    (without, plain, _), (losses, gradient, networks) = found
    networks.zero_grad()
    term = soft_dice_loss(networks.fast(image), label)
    (0.35 * term).backward()
    assert float(losses["x_dice"]) == pytest.approx(float(term.detach()))
    assert float(losses["total"] - without["total"]) == pytest.approx(0.35 * float(term.detach()))
    torch.testing.assert_close(gradient - plain, networks.segmentation_decoder.out.weight.grad)


def test_a_further_term_counts_by_its_weight_and_is_noted_without() -> None:
    settings = resolve_settings(overrides={"network.width": 2})
    torch.manual_seed(0)
    networks = Networks(classes=3, **dict(settings.network)).double()
    image, label = torch.rand(2, 1, 32, 32).double(), torch.randint(3, (2, 32, 32))
    truth = Truth(image, label)

    def gradients() -> dict[str, torch.Tensor]:
        found = {n: p.grad.clone() for n, p in networks.named_parameters() if p.grad is not None}
        networks.zero_grad()
        return found

    plain, with_term = Ledger(), Ledger()
    passes = Passes(networks, settings)
    passes.ftn(image, truth, plain, joint=False)
    without = gradients()
    term = Further("square", 3.0, lambda p: p.square().mean())
    passes.ftn(image, truth, with_term, joint=False, prefix="x_", scale=0.5, further=[term])
    found = gradients()

    expected = networks.segmentation_decoder(*networks.encode(image)[1:]).square().mean()
    (1.5 * expected).backward()
    alone = gradients()
    assert float(with_term.losses["x_square"]) == pytest.approx(float(expected.detach()))
    total = 0.5 * plain.losses["total"] + 1.5 * expected.detach()
    assert float(with_term.losses["total"]) == pytest.approx(float(total))
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, 0.5 * without[name] + alone.get(name, 0))
