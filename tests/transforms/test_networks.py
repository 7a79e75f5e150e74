"""MixStyle and DSU as layers: between the styles of two samples, in training alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coopseg import transforms as T
from coopseg.errors import CoopsegError


@pytest.mark.parametrize("spatial", [(50,), (9, 9), (5, 5, 5)])
def test_mixstyle_gives_statistics_between_two_samples(spatial: tuple[int, ...]) -> None:
    x = torch.randn(6, 3, *spatial, dtype=torch.float64) + 3 * torch.randn(6, 3, *[1] * len(spatial)).double()
    y = T.MixStyle(p=1.0, alpha=0.5, generator=torch.Generator().manual_seed(0))(x)
    own, found = x.flatten(2).mean(2), y.flatten(2).mean(2)
    for sample in range(6):
        on_a_line = [
            torch.linalg.matrix_rank(
                torch.stack([found[sample] - own[sample], other - own[sample]]), tol=1e-6
            )
            for other in own
        ]
        assert min(on_a_line) <= 1
    normal = [(t - t.flatten(2).mean(2).view(6, 3, *[1] * len(spatial))) for t in (x, y)]
    torch.testing.assert_close(*(F.normalize(t.flatten(2), dim=2) for t in normal))


@pytest.mark.parametrize("make", [T.MixStyle, T.DSU])
def test_styles_change_in_training_with_their_probability(make: Any) -> None:
    x = torch.randn(4, 3, 5, 5)
    never, always = make(p=0.0), make(p=1.0)
    assert never(x) is x
    assert always.eval()(x) is x
    half = make(p=0.5, generator=torch.Generator().manual_seed(0))
    share = sum(half(x) is x for _ in range(200)) / 200
    assert share == pytest.approx(0.5, abs=0.15)
    with pytest.raises(CoopsegError, match="setting p"):
        make(p=2.0)


def test_noise_on_the_style_of_one_image_is_refused() -> None:
    with pytest.raises(CoopsegError, match="a batch of 1 image has no spread"):
        T.DSU(p=1.0)(torch.randn(1, 3, 5, 5))


def test_a_layer_stands_behind_any_module() -> None:
    """As written out by hand; the network is the same after it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    image = torch.rand(4, 1, 16, 16)
    style = T.MixStyle(p=1.0, generator=torch.Generator().manual_seed(1))
    with T.layer_at(net, style, at=["0", "2"]):
        found = net(image)
    by_hand = T.MixStyle(p=1.0, generator=torch.Generator().manual_seed(1))
    expected = image
    for number, layer in enumerate(net):
        expected = layer(expected)
        if number in (0, 2):
            expected = by_hand(expected)
    torch.testing.assert_close(found, expected)
    assert not any(module._forward_hooks for module in net.modules())
