"""Styles, MixStyle and DSU against numpy, one sample and channel after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from coopseg.config.rivals import DsuSettings, MixStyleSettings
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks
from coopseg.rivals.styles import (
    Dsu,
    Mix,
    MixStyle,
    Style,
    mix,
    restyle,
    sample_beta,
    sample_layers,
    spread,
    style_of,
)


def features(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (5 + 3 * torch.randn(4, 3, 6, 5, generator=generator, dtype=torch.float64)).to(dtype)


def some_style(seed: int) -> Style:
    generator = torch.Generator().manual_seed(seed)
    return Style(*(1 + torch.rand(2, 4, 3, 1, 1, generator=generator, dtype=torch.float64)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_mean_and_deviation_of_every_channel(layout: torch.memory_format) -> None:
    x = features().contiguous(memory_format=layout)
    found = style_of(x)
    for sample in range(4):
        for channel in range(3):
            values = x[sample, channel].numpy()
            assert found.mean[sample, channel].item() == pytest.approx(values.mean())
            assert found.deviation[sample, channel].item() == pytest.approx(np.sqrt(values.var() + 1e-6))


def test_the_gradient_of_a_style() -> None:
    x = features().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: (style_of(x).mean, style_of(x).deviation), x)


def test_restyled_features_have_the_wanted_style() -> None:
    x, wanted = features(), some_style(1)
    found = style_of(restyle(x, style_of(x), wanted))
    torch.testing.assert_close(found.mean, wanted.mean)
    torch.testing.assert_close(found.deviation, wanted.deviation, rtol=1e-5, atol=0)
    torch.testing.assert_close(restyle(x, style_of(x), style_of(x)), x)


def test_half_precision_keeps_its_type_and_loses_nothing_on_the_way() -> None:
    x, wanted = features(torch.bfloat16), some_style(1)
    found = restyle(x, style_of(x), wanted)
    exact = restyle(x.double(), style_of(x.double()), wanted)
    assert found.dtype == torch.bfloat16
    assert style_of(x).mean.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-5)


def test_mixing_and_spread() -> None:
    style, share = some_style(2), torch.tensor([0.0, 1.0, 0.25, 0.5], dtype=torch.float64)
    partner = torch.tensor([2, 3, 0, 1])
    mixed, over_batch = mix(style, partner, share), spread(style)
    for name in ("mean", "deviation"):
        own, found = getattr(style, name).numpy(), getattr(mixed, name).numpy()
        for sample, (other, part) in enumerate(zip(partner.tolist(), share.tolist(), strict=True)):
            np.testing.assert_allclose(found[sample], part * own[sample] + (1 - part) * own[other])
        np.testing.assert_allclose(getattr(over_batch, name)[0], np.sqrt(own.var(0, ddof=1) + 1e-6))


def test_one_image_has_no_spread() -> None:
    with pytest.raises(CoopsegError, match="a batch of 1 image has no spread of styles: give two"):
        spread(style_of(features()[:1]))


def test_each_layer_is_chosen_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    found = [sample_layers(("a", "b"), 0.3, generator) for _ in range(4000)]
    for wanted, probability in ((set(), 0.49), ({"a"}, 0.21), ({"b"}, 0.21), ({"a", "b"}, 0.09)):
        share = np.mean([layers == wanted for layers in found])
        assert share == pytest.approx(probability, abs=5 * np.sqrt(probability / 4000))


CODE = (4, 16, 2, 2)


def draw(seed: int = 0, batch: int = 4, **settings: Any) -> dict[str, Mix]:
    rival = MixStyle(MixStyleSettings(**settings))
    return rival.sample(torch.zeros(batch, 1, 32, 32), CODE, torch.Generator().manual_seed(seed))


def slowly(features: torch.Tensor, drawn: Mix) -> torch.Tensor:
    """MixStyle with constant statistics, one channel after another."""
    fixed = features.detach().numpy()
    mean, deviation = fixed.mean((2, 3)), np.sqrt(fixed.var((2, 3)) + 1e-6)
    samples = []
    for n in range(len(features)):
        other, part = int(drawn.partner[n]), float(drawn.share[n])
        channels = [
            (features[n, c] - mean[n, c])
            / deviation[n, c]
            * (part * deviation[n, c] + (1 - part) * deviation[other, c])
            + (part * mean[n, c] + (1 - part) * mean[other, c])
            for c in range(features.shape[1])
        ]
        samples.append(torch.stack(channels))
    return torch.stack(samples)


def test_styles_as_the_loops_do() -> None:
    features = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = draw(p=1)["stem"]
    found = MixStyle(MixStyleSettings()).style(features, drawn)
    torch.testing.assert_close(found, slowly(features, drawn))


@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0])
def test_shares_come_from_the_beta_distribution(alpha: float) -> None:
    shares = sample_beta(alpha, 4000, torch.Generator().manual_seed(0))
    assert not shares.isnan().any()
    assert stats.kstest(shares.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_partners_are_permutations_of_their_own() -> None:
    drawn = draw(batch=16, p=1)
    assert list(drawn) == ["stem", "down1", "down2"]
    for mixed in drawn.values():
        assert sorted(mixed.partner.tolist()) == list(range(16))
    assert not torch.equal(drawn["stem"].partner, drawn["down1"].partner)
    assert not torch.equal(drawn["stem"].share, drawn["down1"].share)


def test_the_same_seed_draws_the_same_and_the_probability_changes_no_other_draw() -> None:
    first, again, half = draw(7, p=1), draw(7, p=1), draw(7, p=0.5)
    assert len(half) < 3
    for layer, mixed in (again | half).items():
        assert torch.equal(mixed.partner, first[layer].partner)
        assert torch.equal(mixed.share, first[layer].share)


@pytest.mark.parametrize("p", [1.0, 0.0])
def test_a_step_is_one_graph(steps: Any, p: float) -> None:
    """Without styled layers it is a pass of the clean image."""

    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        def style(layer: str, x: Tensor) -> Tensor:
            return slowly(x, drawn[layer]) if layer in drawn else x

        return steps.loss_of_code(networks, steps.encode_styled(networks, image, style), image, label)

    steps.check_against_one_graph("mixstyle", further, records=True, learns=True, p=p)


def draw_noise(seed: int = 0, batch: int = 4, **settings: Any) -> dict[str, Style]:
    image = torch.zeros(batch, 1, 32, 32, dtype=torch.float64)
    return Dsu(DsuSettings(**settings)).sample(image, CODE, torch.Generator().manual_seed(seed))


def slowly_disturbed(features: torch.Tensor, noise: Style) -> torch.Tensor:
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
    drawn, weights = draw_noise(p=1)["down1"], torch.rand_like(x)
    results = []
    for apply in (Dsu(DsuSettings()).style, slowly_disturbed):
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
    styles = [style_of(rival.style(x, draw_noise(seed, p=1)["stem"])) for seed in range(2000)]
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
    drawn = draw_noise(p=1)
    assert {layer: noise.mean.shape[1] for layer, noise in drawn.items()} == {
        "stem": 2, "down1": 4, "down2": 8, "down3": 16, "down4": 16, "head": 16
    }  # fmt: skip


def test_the_same_seed_draws_the_same_noise_and_the_probability_changes_none() -> None:
    first, again, half = draw_noise(7, p=1), draw_noise(7, p=1), draw_noise(7, p=0.5)
    assert 0 < len(half) < 6
    for layer, noise in (again | half).items():
        assert torch.equal(noise.mean, first[layer].mean)
        assert torch.equal(noise.deviation, first[layer].deviation)


@pytest.mark.parametrize("p", [1.0, 0.5])
def test_a_step_with_noise_is_one_graph(steps: Any, p: float) -> None:
    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        def style(layer: str, x: Tensor) -> Tensor:
            return slowly_disturbed(x, drawn[layer]) if layer in drawn else x

        return steps.loss_of_code(networks, steps.encode_styled(networks, image, style), image, label)

    steps.check_against_one_graph("dsu", further, records=True, learns=True, p=p)
