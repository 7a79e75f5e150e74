"""The rearranged blocks against the plain definition, and the norm layer against torch's."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from coopseg.networks.blocks import UpBlock, merge_upsampling


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
