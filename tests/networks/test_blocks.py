"""The rearranged blocks against the plain definition, and the norm layer against torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.networks.blocks import (
    TransposedUpBlock,
    UpBlock,
    bias_inside,
    compose,
    correct_edges,
    merge_upsampling,
)


def test_merged_upsampling_is_upsampling_then_convolution() -> None:
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
    merged = F.conv_transpose2d(x, merge_upsampling(weight), stride=2, padding=1)
    torch.testing.assert_close(merged, plain)
    seed = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad(merged, (weight, x), seed),
        torch.autograd.grad(plain, (weight, x), seed),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_up_block_equals_its_plain_definition() -> None:
    block = UpBlock(6, 4).double()
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    v = F.interpolate(x, scale_factor=2, mode="nearest")
    body = block.norm2(block.conv2(F.leaky_relu(block.norm1(block.conv1(v)), 0.2)))
    torch.testing.assert_close(block(x), F.leaky_relu(block.skip(v) + body, 0.2))


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("rows", "columns"), [(5, 4), (1, 3), (1, 1)])
def test_a_padded_3x3_convolution_after_it(rows: int, columns: int) -> None:
    x, up, bias, weight = draw(2, 3, rows, columns), draw(3, 5, 2, 2), draw(5), draw(4, 5, 3, 3)
    plain = F.conv2d(F.conv_transpose2d(x, up, bias, stride=2), weight, padding=1)
    inside = bias_inside(bias, weight)
    one = F.conv_transpose2d(x, compose(up, weight), inside, stride=2, padding=1)
    one = correct_edges(one, bias, weight)
    torch.testing.assert_close(one, plain)
    seed = torch.randn_like(plain)
    of_one, of_plain = (torch.autograd.grad(y, (x, up, bias, weight), seed) for y in (one, plain))
    torch.testing.assert_close(of_one, of_plain)


def test_a_1x1_convolution_after_it() -> None:
    x, up, bias, weight = draw(2, 3, 5, 4), draw(3, 5, 2, 2), draw(5), draw(4, 5, 1, 1)
    plain = F.conv2d(F.conv_transpose2d(x, up, bias, stride=2), weight)
    one = F.conv_transpose2d(x, compose(up, weight), bias_inside(bias, weight), stride=2)
    torch.testing.assert_close(one, plain)


@pytest.mark.parametrize("training", [True, False])
def test_the_block_equals_its_plain_definition(training: bool) -> None:
    block = TransposedUpBlock(6, 4).double().train(training)
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    if not training:  # running statistics with something in them, once the bias has been through a batch
        block.train()(x)
        block.eval()

    def norm(layer: Any, y: Tensor) -> Tensor:
        mean, variance = (None, None) if training else (layer.running_mean, layer.running_var)
        return F.batch_norm(y, mean, variance, layer.weight, layer.bias, training=training, eps=1e-5)

    v = block.up(x)
    body = norm(block.norm2, block.conv2(F.leaky_relu(norm(block.norm1, block.conv1(v)), 0.2)))
    torch.testing.assert_close(block(x), F.leaky_relu(block.skip(v) + body, 0.2))
