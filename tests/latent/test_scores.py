"""Scores against numpy in double precision, and their meaning on losses whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from coopseg.latent.scores import Rule, scores

RULES: tuple[Rule, ...] = ("gradient", "saliency", "magnitude", "score")


def code_and_gradient(*spatial: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    code = torch.rand(2, 5, *spatial, generator=generator, dtype=dtype)
    return code, torch.randn(2, 5, *spatial, generator=generator, dtype=dtype)


@pytest.mark.parametrize("spatial", [(7,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("rule", RULES)
def test_scores_are_the_stated_means(rule: Rule, spatial: tuple[int, ...]) -> None:
    code, gradient = code_and_gradient(*spatial)
    z, g = code.numpy(), gradient.numpy()
    value = {"gradient": g, "saliency": -g * z, "magnitude": np.abs(g), "score": g}[rule]
    channel, position = scores(rule, code=code, gradient=gradient)
    np.testing.assert_allclose(channel, value.mean(tuple(range(2, value.ndim))), atol=1e-12)
    np.testing.assert_allclose(position, value.mean(1).reshape(2, -1), atol=1e-12)


def test_half_precision_is_averaged_in_single_precision() -> None:
    code, gradient = code_and_gradient(8, 8, dtype=torch.bfloat16)
    channel, position = scores("gradient", code=code, gradient=gradient)
    assert channel.dtype == position.dtype == torch.float32
    torch.testing.assert_close(channel, gradient.float().mean((2, 3)))


def test_saliency_is_what_a_linear_loss_gains_when_a_channel_goes_to_0() -> None:
    code, weight = code_and_gradient(3, 4)
    channel, _ = scores("saliency", code=code, gradient=weight)
    clean = (code * weight).sum((1, 2, 3))
    for index in range(code.shape[1]):
        masked = code.clone()
        masked[:, index] = 0
        gain = (masked * weight).sum((1, 2, 3)) - clean
        torch.testing.assert_close(gain, channel[:, index] * 12)
