"""Styles against numpy, one sample and channel after another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coopseg.errors import CoopsegError
from coopseg.rivals.style import Style, mix, restyle, sample_layers, spread, style_of


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
