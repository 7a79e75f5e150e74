"""Implements GIN, global intensity non-linear augmentation by random networks (Ouyang et al., TMI 2022).

For each image of a batch, two random networks (training/random_networks.py) make two copies of it. The FTN
should segment both copies, and both alike: the terms are CE, Dice, ½ MSE(x̃', x) and CE(C(p̃), y) of the
copies, and 10 times KL(p₁ ‖ p₂) as a mean over pixels and classes: with four classes, 10 / 4 times the KL of
a pixel.

All copies form one batch: both share batch statistics, and each term is the mean over both, so that the pass
weighs as much as that of any other rival. The paper writes the sum over both, without that mean. There
training uses the copies only, so BatchNorm records and learns in their pass ("shared").

This project made these choices, where the paper was not clear or the package has rules of its own:

- a copy is scaled to [0, 1] per slice before it enters the encoder, as all images are. The restored norm of a
  copy then makes a difference only if two copies are blended (gin_ipa.py);
- the Dice loss is the one that SLAug (Su et al., AAAI 2023) used beside this method: see `soft_dice_loss`;
- the gradient of the KL flows into both predictions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coopseg.config.rivals import GinSettings
from coopseg.networks.cooperative import Networks
from coopseg.rivals.divergence import divergence
from coopseg.training.ledger import Ledger
from coopseg.training.losses import rescale_slices
from coopseg.training.passes import Further, Passes, Truth
from coopseg.training.random_networks import sample_networks, transform
from coopseg.training.rival import Batch, Example, ImageRival

COPIES = 2


class Gin(ImageRival):
    """Trains on two copies of each image, as the module's docstring describes."""

    name = "gin"
    norm = "shared"

    def __init__(self, settings: GinSettings) -> None:
        self.settings = settings

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

    def apply(self, batch: Batch, drawn: Any, networks: Networks) -> Example:
        """Returns the first copies of all images, then the second, with their clean images and labels."""
        image, label = batch.truth.image, batch.truth.label
        truth = Truth(image.repeat(COPIES, 1, 1, 1), label.repeat(COPIES, 1, 1))
        return Example(self.copies(image, drawn).flatten(0, 1), truth)

    def add(self, passes: Passes, batch: Batch, drawn: Any, ledger: Ledger) -> None:
        """Runs the hard pass of all copies, with Dice and the divergence between the two copies."""
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
