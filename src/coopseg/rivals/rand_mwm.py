"""Implements random multi-window masking: noise in parts of an image (Zhou et al. 2019, Models Genesis).

In-painting fills the windows with uniform noise, one value per pixel; out-painting leaves the windows and
fills the rest. The paper gives the noise, the border, up to five windows (each further one with probability
0.95), and their sides: a sixth to a third of the image for in-painting, about half of it for out-painting.
This project chose at least one window, and leaves half of the images as they are, since no share is
published. At 192 × 192 a quarter of an image is noise after in-painting, nearly half of it after
out-painting.

BatchNorm is frozen in the hard pass, as when the method was used on these networks for cardiac MR: running
statistics are left alone, weights and biases get no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coopseg.config.rivals import RandMwmSettings
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import StepNetworks
from coopseg.rivals.operations import covered
from coopseg.training.rival import Batch, Example, ImageRival


@dataclass(frozen=True, eq=False)
class Windows:
    """Holds the draws for a batch (B, C, H, W) with N windows per image.

    start, length: (B, N, 2) int64, pixels, rows then columns. present: (B, N) bool, which windows count.
    outside: (B,) bool, whether the noise is outside the windows. applied: (B,) bool, whether there is any.
    noise: (B, C, H, W) in [0, 1).
    """

    start: Tensor
    length: Tensor
    present: Tensor
    outside: Tensor
    applied: Tensor
    noise: Tensor


class RandMwm(ImageRival):
    """Trains on partly noisy images; the clean image and its label stay the targets."""

    name = "rand_mwm"
    norm = "frozen"
    settings: RandMwmSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Windows:
        """Draws windows and noise. Raises CoopsegError if the largest window does not fit."""
        chosen, batch = self.settings, len(image)
        size = torch.tensor(image.shape[2:])
        sides = torch.stack([self._sides(name, size) for name in ("side", "out_side")])

        def uniform(*shape: int) -> Tensor:
            return torch.rand(batch, *shape, generator=generator)

        applied, outside = uniform() < chosen.p, uniform() < chosen.out_painting
        least, most = sides[outside.long()][:, :, None].unbind(1)
        length = least + (uniform(chosen.windows, 2) * (most - least + 1)).long()
        room = size - 2 * chosen.border
        start = chosen.border + (uniform(chosen.windows, 2) * (room - length + 1)).long()
        present = (uniform(chosen.windows) < chosen.further).long()
        present[:, 0] = 1  # every other window is present only if the one before it is
        noise = uniform(*image.shape[1:]).to(image.dtype)
        drawn = start, length, present.cumprod(1).bool(), outside, applied, noise
        return Windows(*(tensor.to(image.device, non_blocking=True) for tensor in drawn))

    def apply(self, batch: Batch, drawn: Windows, networks: StepNetworks) -> Example:
        """Returns the image with noise in its windows, or everywhere else, or as it is."""
        return Example(paint(batch.truth.image, drawn), batch.truth)

    def _sides(self, name: str, size: Tensor) -> Tensor:
        """Returns the least and greatest length of a window in pixels, (2, 2), along both axes of `size`."""
        least, most = ([int(side * part) for side in size.tolist()] for part in getattr(self.settings, name))
        room = (size - 2 * self.settings.border).tolist()
        if min(least) < 1 or any(side > place for side, place in zip(most, room, strict=True)):
            raise CoopsegError(
                f"rivals.rand_mwm: windows of {least} to {most} pixels do not fit into {room}, the image "
                f"without its border; change {name} or border"
            )
        return torch.tensor([least, most])


def paint(image: Tensor, drawn: Windows) -> Tensor:
    """Replaces parts of images (B, C, H, W) in [0, 1] by noise."""
    windows = covered(drawn.start, drawn.length, image.shape[2:]) & drawn.present[..., None, None]
    noisy = (windows.any(1) ^ drawn.outside[:, None, None]) & drawn.applied[:, None, None]
    return torch.where(noisy[:, None], drawn.noise, image)
