"""Implements GIN and GIN-IPA: random networks change intensities (Ouyang et al., TMI 2022).

GIN is global intensity non-linear augmentation. For each image of a batch, two random networks
(training/random_networks.py) make two copies of it. The FTN should segment both copies, and both alike: the
terms are CE, Dice, ½ MSE(x̃', x) and CE(C(p̃), y) of the copies, and 10 times KL(p₁ ‖ p₂) as a mean over pixels
and classes: with four classes, 10 / 4 times the KL of a pixel.

IPA is interventional pseudo-correlation augmentation. A smooth random map b in [0, 1] exchanges the two
copies by place: b g₁(x) + (1 - b) g₂(x) and (1 - b) g₁(x) + b g₂(x). So organs no longer change their look
together. b is a cubic B-spline surface whose control points are U(0, 1) and lie a quarter of the image's side
apart.

All copies form one batch: both share batch statistics, and each term is the mean over both, so that the pass
weighs as much as that of any other rival. The paper writes the sum over both, without that mean. There
training uses the copies only, so BatchNorm records and learns in their pass ("shared").

This project made these choices, where the paper was not clear or the package has rules of its own:

- a copy is scaled to [0, 1] per slice before it enters the encoder, as all images are. The restored norm of a
  copy then makes a difference only if two copies are blended;
- the Dice loss is the one that SLAug (Su et al., AAAI 2023) used beside this method: see `soft_dice_loss`;
- the gradient of the KL flows into both predictions;
- each map b is scaled to fill [0, 1]: a surface stays near its mean (its standard deviation is 0.14) and
  would mix both copies everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from coopseg.config.rivals import GinIpaSettings, GinSettings
from coopseg.networks.cooperative import StepNetworks
from coopseg.rivals.operations import control_points, spline_surface
from coopseg.training.losses import Ledger, divergence, rescale_slices
from coopseg.training.passes import Further, Passes, Truth
from coopseg.training.random_networks import RandomNetworks, sample_networks, transform
from coopseg.training.rival import Batch, Example, ImageRival, like

COPIES = 2


class Gin(ImageRival):
    """Trains on two copies of each image, as the module's docstring describes."""

    name = "gin"
    norm = "shared"
    settings: GinSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Any:
        """Draws the networks of the first copies of all images, then those of the second."""
        chosen = self.settings
        return sample_networks(
            image, COPIES * len(image), generator, layers=chosen.layers, channels=chosen.channels
        )

    def copies(self, image: Tensor, drawn: Any) -> Tensor:
        """Turns images (B, C, H, W) into copies (2, B, C, H, W), not yet scaled."""
        repeated = image.repeat(COPIES, 1, 1, 1)
        return transform(repeated, drawn).unflatten(0, (COPIES, -1))

    def apply(self, batch: Batch, drawn: Any, networks: StepNetworks) -> Example:
        """Returns the first copies of all images, then the second, with their clean images and labels."""
        image, label = batch.truth.image, batch.truth.label
        truth = Truth(image.repeat(COPIES, 1, 1, 1), label.repeat(COPIES, 1, 1))
        return Example(self.copies(image, drawn).flatten(0, 1), truth)

    def add(self, passes: Passes, batch: Batch, drawn: Any, ledger: Ledger) -> None:
        """Runs the hard pass of all copies, with Dice and the divergence between the two copies."""
        example = self.apply(batch, drawn, passes.networks)
        weight = self.settings.consistency / passes.networks.classes
        apart = Further("consistency", weight, lambda p: divergence(*p.chunk(COPIES)))
        inputs, dice = rescale_slices(example.inputs), self.settings.dice
        self.hard_pass(passes, batch, inputs, ledger, truth=example.truth, dice=dice, further=[apart])


@dataclass(frozen=True, eq=False)
class Blends:
    """Holds the draws: networks of both copies; points (B, 1, n, n) in [0, 1), control points of the maps."""

    networks: RandomNetworks
    points: Tensor


class GinIpa(Gin):
    """Trains on blends of GIN copies, as the module's docstring describes."""

    name = "gin_ipa"
    settings: GinIpaSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Blends:
        """Draws the networks, then the control points."""
        networks = super().sample(image, code, generator)
        side = control_points(self.settings.spacing)
        return Blends(networks, like(torch.rand(len(image), 1, side, side, generator=generator), image))

    def copies(self, image: Tensor, drawn: Blends) -> Tensor:
        """Turns images (B, C, H, W) into the two blends (2, B, C, H, W), not yet scaled."""
        first, second = super().copies(image, drawn.networks)
        share = blend_map(drawn.points, image.shape[2:], self.settings.spacing)
        return torch.stack([torch.lerp(second, first, share), torch.lerp(first, second, share)])


def blend_map(points: Tensor, size: tuple[int, ...], spacing: float) -> Tensor:
    """Returns the maps b, (B, 1, *size), from control points (B, 1, n, n); each map reaches 0 and 1."""
    return rescale_slices(spline_surface(points, size, spacing))
