"""MixStyle against loops over samples and channels, and in a step against one graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from coopseg.config.rivals import MixStyleSettings
from coopseg.networks.cooperative import Networks
from coopseg.rivals.mixstyle import Mix, MixStyle, sample_beta

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
