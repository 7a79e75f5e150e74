"""GIN and GIN-IPA: copies, blends and their terms in a step; the networks have tests of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from coopseg.config.rivals import GinIpaSettings, GinSettings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norm_mode
from coopseg.rivals.gin import Blends, Gin, GinIpa, blend_map
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
        with norm_mode(networks, record=False, learn=True):  # loss_of_code records this pass
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


def draw(image: Tensor, seed: int = 0) -> Blends:
    return GinIpa(GinIpaSettings()).sample(image, None, torch.Generator().manual_seed(seed))


def pictures(batch: int = 3, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, channels, 24, 32, generator=generator, dtype=torch.float64)


def slow_map(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The spline surface through points (7, 7), scaled to [0, 1]."""
    knots = 0.25 * np.arange(-3, 8)
    down, along = ((np.arange(side) + 0.5) / side for side in size)
    surface = BSpline(knots, BSpline(knots, points, 3)(down), 3, axis=1)(along)
    return (surface - surface.min()) / (surface.max() - surface.min())


def test_copies_take_each_others_place() -> None:
    image = pictures(channels=2)
    drawn = draw(image)
    first, second = Gin(GinSettings()).copies(image, drawn.networks)
    found = GinIpa(GinIpaSettings()).copies(image, drawn)
    for n in range(3):
        share = torch.from_numpy(slow_map(drawn.points[n, 0].numpy(), (24, 32)))
        torch.testing.assert_close(found[0, n], share * first[n] + (1 - share) * second[n])
        torch.testing.assert_close(found[1, n], (1 - share) * first[n] + share * second[n])


def test_every_image_has_a_map_of_its_own_that_fills_its_range() -> None:
    drawn = draw(pictures(400))
    maps = blend_map(drawn.points, (32, 32), 0.25)
    assert torch.equal(maps.amin((1, 2, 3)), torch.zeros(400, dtype=torch.float64))
    assert torch.equal(maps.amax((1, 2, 3)), torch.ones(400, dtype=torch.float64))
    assert torch.pdist(maps.flatten(1)).min() > 1
    steps = torch.cat([maps.diff(dim=2).flatten(), maps.diff(dim=3).flatten()])
    assert steps.abs().max() < 0.25  # smooth: 8 pixels from one control point to the next
    for share in (0.1, 0.5, 0.9):
        below = float((drawn.points < share).double().mean())
        assert abs(below - share) < 5 * 0.5 / drawn.points.numel() ** 0.5


def test_the_same_seed_makes_the_same_copies() -> None:
    image, rival = pictures(), GinIpa(GinIpaSettings())
    assert torch.equal(rival.copies(image, draw(image, 4)), rival.copies(image, draw(image, 4)))
    drawn, other = draw(image, 4), draw(image, 5)
    assert not torch.equal(
        rival.copies(image, drawn), rival.copies(image, Blends(drawn.networks, other.points))
    )
