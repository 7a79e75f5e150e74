"""DSU against a second version, its noise by its distribution, and in a step against one graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from coopseg.config.rivals import DsuSettings
from coopseg.networks.cooperative import Networks
from coopseg.rivals.dsu import Dsu
from coopseg.rivals.style import Style, style_of

CODE = (4, 16, 2, 2)


def draw(seed: int = 0, batch: int = 4, **settings: Any) -> dict[str, Style]:
    image = torch.zeros(batch, 1, 32, 32, dtype=torch.float64)
    return Dsu(DsuSettings(**settings)).sample(image, CODE, torch.Generator().manual_seed(seed))


def slowly(features: torch.Tensor, noise: Style) -> torch.Tensor:
    """DSU one sample after another, the gradient through the statistics left to autograd."""
    flat = features.flatten(2)
    mean, deviation = flat.mean(2), (flat.var(2, correction=0) + 1e-6).sqrt()
    far = [(value.var(0, correction=1) + 1e-6).sqrt() for value in (mean, deviation)]
    samples = []
    for n in range(len(features)):
        wanted_mean = mean[n] + noise.mean[n].flatten() * far[0]
        wanted_deviation = deviation[n] + noise.deviation[n].flatten() * far[1]
        normal = (flat[n] - mean[n][:, None]) / deviation[n][:, None]
        samples.append(normal * wanted_deviation[:, None] + wanted_mean[:, None])
    return torch.stack(samples).view_as(features)


def test_styles_as_the_loop_does_with_its_gradient() -> None:
    x = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn, weights = draw(p=1)["down1"], torch.rand_like(x)
    results = []
    for apply in (Dsu(DsuSettings()).style, slowly):
        leaf = x.clone().requires_grad_()
        styled = apply(leaf, drawn)
        results.append((styled.detach(), *torch.autograd.grad((styled * weights).sum(), leaf)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_noise_is_as_large_as_the_batch_is_spread() -> None:
    """Over many draws mean and deviation vary about the sample's own as they do over the batch."""
    x = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x * torch.tensor([1.0, 2, 3, 4]).view(-1, 1, 1, 1) + torch.arange(4).view(-1, 1, 1, 1)
    own, rival = style_of(x), Dsu(DsuSettings())
    styles = [style_of(rival.style(x, draw(seed, p=1)["stem"])) for seed in range(2000)]
    for name, values in (("mean", own.mean), ("deviation", own.deviation)):
        found = torch.stack([getattr(style, name) for style in styles])
        if name == "deviation":  # a negative factor mirrors the features; its size is what shows
            found = found[:, 2:]  # of the samples whose deviation is far from 0
            values = values[2:]
        spread = getattr(own, name).std(0, correction=1)
        bound = 5 * spread.expand_as(values) / len(styles) ** 0.5
        assert ((found.mean(0) - values).abs() < 1.5 * bound).all()
        torch.testing.assert_close(found.std(0), spread.expand_as(values), rtol=0.1, atol=0)


def test_every_layer_has_noise_for_its_channels() -> None:
    drawn = draw(p=1)
    assert {layer: noise.mean.shape[1] for layer, noise in drawn.items()} == {
        "stem": 2, "down1": 4, "down2": 8, "down3": 16, "down4": 16, "head": 16
    }  # fmt: skip


def test_the_same_seed_draws_the_same_and_the_probability_changes_no_other_draw() -> None:
    first, again, half = draw(7, p=1), draw(7, p=1), draw(7, p=0.5)
    assert 0 < len(half) < 6
    for layer, noise in (again | half).items():
        assert torch.equal(noise.mean, first[layer].mean)
        assert torch.equal(noise.deviation, first[layer].deviation)


@pytest.mark.parametrize("p", [1.0, 0.5])
def test_a_step_is_one_graph(steps: Any, p: float) -> None:
    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        def style(layer: str, x: Tensor) -> Tensor:
            return slowly(x, drawn[layer]) if layer in drawn else x

        return steps.loss_of_code(networks, steps.encode_styled(networks, image, style), image, label)

    steps.check_against_one_graph("dsu", further, records=True, learns=True, p=p)
