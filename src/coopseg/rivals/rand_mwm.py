"""Random multi-window masking: parts of an image replaced by noise (Zhou et al. 2019, Models Genesis).

In-painting fills the windows with uniform noise, one value a pixel; out-painting leaves the windows and
fills the rest. Theirs: the noise, the border, up to five windows of which each further one comes with
probability 0.95, and sides of a sixth to a third of the image for in-painting. This project's: the same
sides for out-painting, where theirs are about half the image, and never no window at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coopseg.config.rivals import RandMwmSettings
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks
from coopseg.rivals.base import Batch, Example, ImageRival
from coopseg.rivals.windows import covered


@dataclass(frozen=True, eq=False)
class Windows:
    """The draws for a batch (B, C, H, W) with N windows an image, of which the present ones count.

    start, length: (B, N, 2) int64, pixels, rows then columns. present: (B, N) bool.
    outside: (B,) bool, whether the noise is outside the windows. noise: (B, C, H, W) in [0, 1).
    """

    start: Tensor
    length: Tensor
    present: Tensor
    outside: Tensor
    noise: Tensor


class RandMwm(ImageRival):
    """Rand MWM of the results table; image and label stay the targets as they are."""

    name = "rand_mwm"

    def __init__(self, settings: RandMwmSettings) -> None:
        self.settings = settings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Windows:
        """See `Rival.sample`. Raises CoopsegError where the largest window does not fit."""
        chosen, batch = self.settings, len(image)
        size = torch.tensor(image.shape[2:])
        least, most = (torch.tensor([int(side * part) for side in size.tolist()]) for part in chosen.side)
        room = size - 2 * chosen.border
        if (least < 1).any() or (most > room).any():
            raise CoopsegError(
                f"rivals.rand_mwm: windows of {least.tolist()} to {most.tolist()} pixels do not fit into "
                f"{room.tolist()}, the image without its border; change side or border"
            )

        def uniform(*shape: int) -> Tensor:
            return torch.rand(batch, *shape, generator=generator)

        length = least + (uniform(chosen.windows, 2) * (most - least + 1)).long()
        start = chosen.border + (uniform(chosen.windows, 2) * (room - length + 1)).long()
        present = (uniform(chosen.windows) < chosen.further).long()
        present[:, 0] = 1  # the others are further ones, each only after the one before
        outside = uniform() < chosen.out_painting
        drawn = start, length, present.cumprod(1).bool(), outside, uniform(*image.shape[1:]).to(image.dtype)
        return Windows(*(tensor.to(image.device, non_blocking=True) for tensor in drawn))

    def apply(self, batch: Batch, drawn: Windows, networks: Networks) -> Example:
        """The image with noise in its windows, or everywhere else."""
        return Example(paint(batch.truth.image, drawn), batch.truth)


def paint(image: Tensor, drawn: Windows) -> Tensor:
    """Images (B, C, H, W) in [0, 1] -> the same, partly noise."""
    windows = covered(drawn.start, drawn.length, image.shape[2:]) & drawn.present[..., None, None]
    noisy = windows.any(1) ^ drawn.outside[:, None, None]
    return torch.where(noisy[:, None], drawn.noise, image)
