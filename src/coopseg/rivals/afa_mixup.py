"""Implements auxiliary Fourier-basis augmentation with MixUp (Vaish et al., CVPR 2024 and MIDL 2025).

Each image is mixed with its neighbour in the batch, x_m = λ x + (1 - λ) x_n, λ ~ Beta(α, α), and so is its
one-hot label: the CE of a mixed image is λ CE(p, y) + (1 - λ) CE(p, y_n). Then a planar wave is added,

    x̃ = x_m + s side / 32 w / ‖w‖,    w = sin(2 π f (c cos θ + r sin θ) - φ)

at (r, c) pixels from the image's centre. side is the longer side in pixels, s ~ Exp with mean 5, f ~ U(0, 1)
cycles per pixel, and θ, φ ~ U(0, π). On a square image s = 5 gives the wave an amplitude of
5 √2 / 32 = 0.22. Above half a cycle per pixel the pixels show a slower wave. A wave is one pair of points in
k-space, much like the RandSpike test, so that test says less about this row than about others.

As published: MixUp is always applied, with α = 0.2 and one λ per batch, and an image's neighbour is the one
before it. The wave is added to the mixed batch in an auxiliary pass with norms of its own, which are not used
at test time; here that is the hard pass, which normalises by its batch and records nothing. This project
differs:

- the main pass is L_std, as in every row; theirs takes the mixed batch without the wave;
- the terms are those of a hard pass, with full weight; theirs are CE and Dice, half of each pass;
- x̃ is not clamped (nor is it in their nnU-Net) but scaled to [0, 1] per slice, and so is x_m, the target of
  the reconstruction. Their nnU-Net adds the wave to images of standard deviation 1, their classifier to
  images in [0, 1], with a mean s of 10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from coopseg.config.rivals import AfaSettings
from coopseg.networks.cooperative import StepNetworks
from coopseg.rivals.styles import sample_beta
from coopseg.training.losses import one_hot, rescale_slices
from coopseg.training.passes import Truth
from coopseg.training.rival import Batch, Example, ImageRival, like


@dataclass(frozen=True, eq=False)
class Waves:
    """Describes the waves of B images of C channels by four draws, (B, C, 1, 1) each.

    frequency: cycles per pixel. direction, phase: θ and φ in radians. strength: the s above.
    """

    frequency: Tensor
    direction: Tensor
    phase: Tensor
    strength: Tensor


@dataclass(frozen=True, eq=False)
class Draws(Waves):
    """Holds the draws for a batch. share: the λ of the batch, a scalar."""

    share: Tensor


class AfaMixup(ImageRival):
    """Trains on mixed images with waves, as the module's docstring describes."""

    name = "afa_mixup"
    norm = "no_update"
    settings: AfaSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Draws:
        """Draws the waves and λ of a batch."""
        drawn = sample_waves(image, self.settings.strength, generator)
        return Draws(**vars(drawn), share=like(sample_beta(self.settings.alpha, 1, generator)[0], image))

    def apply(self, batch: Batch, drawn: Draws, networks: StepNetworks) -> Example:
        """Returns the mixed images with their waves; the targets are mixed images and shares of classes."""
        image = batch.truth.image
        mixed = mix(image, drawn.share)
        shares = mix(one_hot(batch.truth.label, networks.classes, image), drawn.share)
        return Example(mixed + waves(drawn, mixed.shape[2:]), Truth(rescale_slices(mixed), shares))


def mix(values: Tensor, share: Tensor) -> Tensor:
    """Returns share × each entry of (B, ...) + (1 - share) × the one before; the last precedes the first."""
    return torch.lerp(values.roll(1, 0), values, share)


def sample_waves(image: Tensor, strength: float, generator: torch.Generator | None) -> Waves:
    """Draws a wave for each image and channel of (B, C, H, W). strength: mean of s."""
    uniform = torch.rand(3, *image.shape[:2], 1, 1, generator=generator)
    strengths = torch.empty(uniform[0].shape).exponential_(1 / strength, generator=generator)
    drawn = 1 - uniform[0], math.pi * uniform[1], math.pi * uniform[2], strengths
    return Waves(*(like(values, image) for values in drawn))


def waves(drawn: Waves, size: tuple[int, ...]) -> Tensor:
    """Returns the waves for images of `size` (H, W): (B, C, H, W), of L2 norm strength × longer side / 32."""
    rows, columns = (torch.arange(side).to(drawn.phase) - (side - 1) / 2 for side in size)
    along = columns * drawn.direction.cos() + rows[:, None] * drawn.direction.sin()
    wave = torch.sin(2 * math.pi * drawn.frequency * along - drawn.phase)
    norm = wave.square().sum((2, 3), keepdim=True).sqrt()
    return drawn.strength * max(size) / 32 * wave / norm.clamp_min(torch.finfo(wave.dtype).tiny)
