"""Passes images through random networks to change the look of the anatomy (GIN of Ouyang et al., TMI 2022).

A network g has a few convolutions of 1 or 3 pixels, two channels between them, and a leaky ReLU after all but
the last; its weights and biases are N(0, 1). The image x becomes α x + (1 - α) g(x), α ~ U(0, 1), scaled to
the Frobenius norm of x. Convolutions continue the border outwards. With zeros there, as published, the frame
instead of the heart would set the scale of four in five slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST = 3  # pixels; a kernel has this size or 1
SLOPE = 0.01  # slope of the leaky ReLU


@dataclass(frozen=True, eq=False)
class RandomNetworks:
    """Holds the draws for n images of C channels: a network for each.

    kernels: for each layer (n, out, in, 3, 3); those of size 1 are surrounded by zeros. biases: for each
    layer (n, out). kept: (n,) in [0, 1), the share α of the image itself.
    """

    kernels: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    kept: Tensor


def sample_networks(
    image: Tensor, count: int, generator: torch.Generator | None, *, layers: int = 4, channels: int = 2
) -> RandomNetworks:
    """Draws `count` networks for images like those of `image` (B, C, H, W), on its device and in its type."""
    sides = [image.shape[1], *[channels] * (layers - 1), image.shape[1]]
    kernels, biases = [], []
    for before, after in pairwise(sides):
        weights = torch.randn(count, after, before, LARGEST, LARGEST, generator=generator)
        small = torch.rand(count, generator=generator) < 0.5
        middle = F.pad(torch.ones(1, 1), [LARGEST // 2] * 4)
        kernels.append(weights * torch.where(small[:, None, None, None, None], middle, 1.0))
        biases.append(torch.randn(count, after, generator=generator))
    kept = torch.rand(count, generator=generator)

    def moved(drawn: Tensor) -> Tensor:
        return drawn.to(image.device, image.dtype, non_blocking=True)

    return RandomNetworks(tuple(map(moved, kernels)), tuple(map(moved, biases)), moved(kept))


def transform(image: Tensor, drawn: RandomNetworks) -> Tensor:
    """Passes each of the images (n, C, H, W) through its own network; borders are continued outwards."""
    x = image.reshape(1, -1, *image.shape[2:])  # one image in n groups: all networks at once
    # bf16 would show dark tissue in steps
    with torch.autocast(image.device.type, enabled=False):
        for layer, (kernel, bias) in enumerate(zip(drawn.kernels, drawn.biases, strict=True)):
            wider = F.pad(F.leaky_relu(x, SLOPE) if layer else x, [LARGEST // 2] * 4, mode="replicate")
            x = F.conv2d(wider, kernel.flatten(0, 1), bias.flatten(), groups=len(image))
    mixed = torch.lerp(x.view_as(image), image, drawn.kept.view(-1, 1, 1, 1))
    return mixed * (_norm(image) / _norm(mixed))


def _norm(image: Tensor) -> Tensor:
    return image.square().sum((1, 2, 3), keepdim=True).sqrt()
