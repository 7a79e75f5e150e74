"""GIN's copies and its terms in a step; the networks have tests of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from coopseg.config.rivals import GinIpaSettings, GinSettings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norm_mode, norms
from coopseg.rivals.gin import Gin
from coopseg.rivals.gin_ipa import GinIpa
from coopseg.training.random_networks import transform


def test_every_image_goes_through_two_networks_of_the_stated_form() -> None:
    image, gin = torch.rand(3, 1, 14, 18), Gin(GinSettings(layers=2, channels=5))
    drawn = gin.sample(image, None, torch.Generator().manual_seed(0))
    assert [tuple(kernel.shape[:3]) for kernel in drawn.kernels] == [(6, 5, 1), (6, 1, 5)]
    first, second = gin.copies(image, drawn)
    assert not torch.allclose(first, second)
    assert torch.equal(torch.cat([first, second]), transform(torch.cat([image, image]), drawn))


def slow_dice(p: Tensor, label: Tensor) -> Tensor:
    """Image by image and class by class."""
    losses = [
        1 - 2 * share[here].sum() / (share.square().sum() + here.sum())
        for shares, marks in zip(p, label, strict=True)
        for share, here in zip(shares, [marks == c for c in range(len(shares))], strict=True)
    ]
    return sum(losses) / len(losses)


@pytest.mark.parametrize(
    ("name", "rival"), [("gin", Gin(GinSettings())), ("gin-ipa", GinIpa(GinIpaSettings()))]
)
def test_a_step_is_one_graph(steps: Any, name: str, rival: Gin | GinIpa) -> None:
    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        copies = rival.copies(image, drawn).flatten(0, 1)
        low, high = copies.amin((1, 2, 3), keepdim=True), copies.amax((1, 2, 3), keepdim=True)
        code = networks.image_encoder((copies - low) / (high - low))
        with norm_mode(norms(networks), record=False, learn=True):  # loss_of_code records this pass
            p = torch.softmax(networks.segmentation_decoder(networks.image_encoder.decoupler(code)), 1)
        first, second = (Categorical(probs=part.movedim(1, -1)) for part in (p[:4], p[4:]))
        twice = torch.cat([image, image]), torch.cat([label, label])
        ordinary = steps.loss_of_code(networks, code, *twice)
        return ordinary + slow_dice(p, twice[1]) + 10 / 3 * kl_divergence(first, second).mean()

    steps.check_against_one_graph(name, further, records=True, learns=True)


def test_weights_of_the_terms(steps: Any) -> None:
    image, label = steps.make_batch()
    found = {}
    for weights in ({}, {"dice": 0.0}, {"consistency": 0.0}):
        step = steps.make_step("gin", **weights)
        found[tuple(weights)] = step.backward(
            image, label, step.sample(image, torch.Generator().manual_seed(1))
        ).losses
    losses = found[()]
    assert float(losses["total"] - found[("dice",)]["total"]) == pytest.approx(float(losses["gin_dice"]))
    consistency = float(losses["total"] - found[("consistency",)]["total"])
    assert consistency == pytest.approx(10 / 3 * float(losses["gin_consistency"]))


def test_all_copies_pass_together(steps: Any) -> None:
    image, label = steps.make_batch()
    step, seen = steps.make_step("gin"), []
    step.networks.image_encoder.register_forward_hook(lambda _, inputs, code: seen.append(len(inputs[0])))
    step.backward(image, label, step.sample(image))
    assert seen == [4, 8]
