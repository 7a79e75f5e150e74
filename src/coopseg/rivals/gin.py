"""Global intensity non-linear augmentation, GIN: images through random networks (Ouyang et al., TMI 2022).

A network g has four convolutions of 1 or 3 pixels, two channels between them, and a leaky ReLU after all but
the last; its weights and biases are N(0, 1). The image x becomes α x + (1 - α) g(x), α ~ U(0, 1), scaled to
the Frobenius norm of x. Each image of a batch draws two networks, which make two copies of it. The FTN is to
segment both copies, and both alike: the terms are CE, Dice, ½ MSE(x̃', x) and CE(C(p̃), y) of the copies, and
10 times KL(p₁ ‖ p₂) as a mean over pixels and classes: 10 / 4 times the KL of a pixel with four classes.

All copies are one batch: batch statistics are those of both, and each term is the mean over both, so that the
pass weighs as much as that of any other rival. The paper writes the sum over both, without that mean. There
the copies are all that is trained on, so BatchNorm records and learns in their pass ("shared").

This project's, where the paper was not clear or the package has rules of its own:

- a copy is scaled to [0, 1] per slice before it enters the encoder, as all images are. Only where two copies
  are blended (gin_ipa.py) does the restored norm make a difference then;
- convolutions continue the border outwards. With zeros there, as published, the frame and not the heart would
  set that scale in four slices of five;
- the Dice loss is the one that SLAug (Su et al., AAAI 2023) used beside this method: see `soft_dice_loss`;
- the gradient of the KL flows into both predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.rivals import GinSettings
from coopseg.networks.cooperative import Networks
from coopseg.rivals.adv_noise import lengths
from coopseg.rivals.base import Batch, Example, ImageRival
from coopseg.rivals.divergence import divergence
from coopseg.training.ledger import Ledger
from coopseg.training.losses import rescale_slices
from coopseg.training.passes import Further, Passes, Truth

COPIES = 2
LARGEST = 3  # pixels: a kernel is this or 1
SLOPE = 0.01  # of the leaky ReLU


@dataclass(frozen=True, eq=False)
class RandomNetworks:
    """The draws for n images of C channels: a network for each.

    kernels: of each layer (n, out, in, 3, 3), those of size 1 in the middle of zeros. biases: of each layer
    (n, out). kept: (n,) in [0, 1), the part α of the image itself.
    """

    kernels: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    kept: Tensor


class Gin(ImageRival):
    """See the head of this file."""

    name = "gin"
    norm = "shared"

    def __init__(self, settings: GinSettings) -> None:
        self.settings = settings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Any:
        """The networks of the first copies of all images, then those of the second."""
        return sample_networks(image, COPIES * len(image), self.settings, generator)

    def copies(self, image: Tensor, drawn: Any) -> Tensor:
        """Images (B, C, H, W) -> (2, B, C, H, W), not yet scaled."""
        repeated = image.repeat(COPIES, 1, 1, 1)
        return transform(repeated, drawn).unflatten(0, (COPIES, -1))

    def apply(self, batch: Batch, drawn: Any, networks: Networks) -> Example:
        """The first copies of all images, then the second, and what they show."""
        image, label = batch.truth.image, batch.truth.label
        truth = Truth(image.repeat(COPIES, 1, 1, 1), label.repeat(COPIES, 1, 1))
        return Example(self.copies(image, drawn).flatten(0, 1), truth)

    def add(self, passes: Passes, batch: Batch, drawn: Any, ledger: Ledger) -> None:
        """The hard pass of all copies, with Dice and the divergence between them."""
        example, chosen = self.apply(batch, drawn, passes.networks), self.settings
        element = 1 / passes.networks.classes
        passes.ftn(
            rescale_slices(example.inputs),
            example.truth,
            ledger,
            joint=batch.joint,
            prefix=f"{self.name}_",
            scale=passes.settings.losses.hard,
            dice=chosen.dice,
            further=[
                Further("consistency", chosen.consistency * element, lambda p: divergence(*p.chunk(COPIES))),
            ],
        )


def sample_networks(
    image: Tensor, count: int, settings: GinSettings, generator: torch.Generator | None
) -> RandomNetworks:
    """`count` networks for images like those of `image` (B, C, H, W), on its device and in its type."""
    sides = [image.shape[1], *[settings.channels] * (settings.layers - 1), image.shape[1]]
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
    """Images (n, C, H, W), each through its own network; images and features go on beyond their border."""
    x = image.reshape(1, -1, *image.shape[2:])  # one image in n groups: all networks at once
    # bf16 would make steps of dark tissue
    with torch.autocast(image.device.type, enabled=False):
        for layer, (kernel, bias) in enumerate(zip(drawn.kernels, drawn.biases, strict=True)):
            wider = F.pad(F.leaky_relu(x, SLOPE) if layer else x, [LARGEST // 2] * 4, mode="replicate")
            x = F.conv2d(wider, kernel.flatten(0, 1), bias.flatten(), groups=len(image))
    mixed = torch.lerp(x.view_as(image), image, drawn.kept.view(-1, 1, 1, 1))
    return mixed * (lengths(image) / lengths(mixed))
