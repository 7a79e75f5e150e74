"""Makes hard images for any network, by an image decoder that learns beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.latent.masks import LatentMasks
from coopseg.networks.any_dimension import Upsampler


class ImageExamples(nn.Module):
    """Decodes the code at a network's bottleneck to the image; from a masked code comes a hard image.

    The decoder is to be trained with the network: add `loss` to the network's own, and its parameters to the
    optimiser. code: the recorded code, (B, C, *spatial) with 2 or 3 spatial dimensions, for its shape. image:
    the images, (B, channels, *spatial). masks: how to mask. least: channels at full resolution.

    >>> image, code = torch.rand(2, 1, 32, 32), torch.rand(2, 16, 4, 4)
    >>> examples = ImageExamples(code, image)
    >>> harder = examples.harder(code, image, torch.Generator().manual_seed(0))
    >>> harder.shape, bool((harder >= image.min()).all())
    (torch.Size([2, 1, 32, 32]), True)
    """

    def __init__(
        self, code: Tensor, image: Tensor, masks: LatentMasks | None = None, *, least: int = 8
    ) -> None:
        super().__init__()
        self.masks = masks or LatentMasks()
        doublings = _doublings(code.shape[2:], image.shape[2:])
        self.decoder = Upsampler(
            image.ndim - 2, inputs=code.shape[1], outputs=image.shape[1], doublings=doublings, least=least
        )

    def forward(self, code: Tensor, size: Sequence[int]) -> Tensor:
        """Returns the images (B, channels, *size) that the decoder makes of codes (B, C, *spatial)."""
        return self.decoder(code, size)

    def loss(self, code: Tensor, image: Tensor) -> Tensor:
        """Returns the mean squared error of the decoded images. Its gradient reaches the code."""
        return F.mse_loss(self(code, image.shape[2:]), image)

    def harder(self, code: Tensor, image: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns hard images (B, channels, *spatial), detached and within the range of each image.

        The code is masked where the gradient of the decoder's loss is highest (Chen et al. 2021).
        """
        z = code.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(z, image), z)
        with torch.no_grad():
            hard = self(self.masks(z.detach(), gradient, generator), image.shape[2:])
            lowest, highest = torch.aminmax(image.flatten(1), dim=1)
            shape = (-1, *[1] * (image.ndim - 1))
            return hard.clamp(lowest.view(shape), highest.view(shape))


def _doublings(code: Sequence[int], image: Sequence[int]) -> int:
    ratios = (whole / part for whole, part in zip(image, code, strict=True))
    return max(1, math.ceil(math.log2(max(ratios))))
