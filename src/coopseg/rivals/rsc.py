"""Representation self-challenging: do without the features that speak loudest (Huang et al., ECCV 2020).

In both codes the third of the channels, or of the positions, with the highest gradient of the score
mean(output × target) is set to 0, channels or positions at random for each sample and code. The decoders are
to do without: CE(D_s(m z_s), y), CE(D_s(H(m z_i)), y) and ½ MSE(D_i(m z_i), x), with CE(C(p), y) of both
segmentations. The codes are those of the standard pass and not detached: the encoder learns from them too.
In the paper the masked pass is the training pass itself, so BatchNorm records and learns in it ("shared").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coopseg.config.rivals import RscSettings
from coopseg.config.settings import LatentSettings
from coopseg.latent.choice import CHANNEL, SPATIAL, MaskChoice
from coopseg.latent.masks import apply_mask, build_mask
from coopseg.training.ledger import Ledger
from coopseg.training.losses import cross_entropy, reconstruction, soft_dice_loss, soften
from coopseg.training.passes import Codes, Passes, Truth, leaf
from coopseg.training.rival import Rival

# A third of all channels, whether they are alive or not.
RULE = LatentSettings(score="score", ties="exact", skip_dead=False, published_dropout=False)


@dataclass(frozen=True, eq=False)
class Choices:
    """Which samples are masked by channel, and which by position, in either code."""

    image: MaskChoice
    shape: MaskChoice


class Rsc(Rival):
    """See the head of this file."""

    name = "rsc"
    norm = "shared"
    wanted = frozenset({"score"})

    def __init__(self, settings: RscSettings) -> None:
        self.settings = settings

    def sample(self, image: Tensor, code: Sequence[int], generator: torch.Generator | None) -> Choices:
        """See `Rival.sample`."""
        return Choices(*(self._sample(code, generator).to(image.device) for _ in range(2)))

    def at_codes(
        self,
        passes: Passes,
        truth: Truth,
        drawn: Choices,
        ledger: Ledger,
        z_i: Tensor,
        z_s: Tensor,
        codes: Codes,
    ) -> None:
        """Three passes through the decoders, each freed after it."""
        nets, losses = passes.networks, passes.settings.losses
        image_mask = build_mask(
            drawn.image, code=codes.image, gradient=codes.image_gradients["score"], settings=RULE
        )
        shape_mask = build_mask(
            drawn.shape, code=codes.shape, gradient=codes.shape_gradients["score"], settings=RULE
        )
        decoded = nets.image_decoder(apply_mask(z_i, image_mask))
        term = reconstruction(decoded, truth.image)
        ledger.add("rsc_reconstruction", term, losses.hard * losses.reconstruction).backward()
        shape_code = nets.image_encoder.shape_code(apply_mask(z_i, image_mask))
        self._segment(passes, shape_code, truth, ledger, "rsc_image_")
        self._segment(passes, apply_mask(z_s, shape_mask), truth, ledger, "rsc_shape_")

    def _sample(self, code: Sequence[int], generator: torch.Generator | None) -> MaskChoice:
        batch, channels, height, width = code
        scheme = torch.where(torch.rand(batch, generator=generator) < 0.5, CHANNEL, SPATIAL)
        return MaskChoice(
            scheme=scheme,
            fraction=torch.full((batch,), self.settings.fraction),
            priority=torch.zeros(batch, channels),
            channel_factor=torch.zeros(batch, channels),
            position_factor=torch.zeros(batch, height * width),
            present=frozenset(scheme.tolist()),
        )

    def _segment(self, passes: Passes, shape_code: Tensor, truth: Truth, ledger: Ledger, prefix: str) -> None:
        """CE(p, y) + CE(C(p), y), and Dice by the settings, of a masked shape code, and their gradients."""
        losses = passes.settings.losses
        logits = passes.networks.segmentation_decoder(shape_code)
        p = leaf(logits)
        term = cross_entropy(p, truth.label)
        ledger.add(prefix + "segmentation", term, losses.hard * losses.segmentation).backward()
        if losses.dice:
            term = soft_dice_loss(p, truth.label)
            ledger.add(prefix + "dice", term, losses.hard * losses.dice).backward()
        if losses.stn:
            # a rival has no part in a step before the networks cooperate
            seen = p.detach() if losses.separate else p
            softened = soften(seen[:: losses.stn_every], losses.temperature)
            label = truth.label[:: losses.stn_every]
            passes.stn(softened, label, ledger, prefix + "refined", losses.hard * losses.refined)
        logits.backward(p.grad)
