"""Implements representation self-challenging: mutes the dominant features (Huang et al., ECCV 2020).

In both codes a third of the channels, or of the positions, is set to 0: those with the highest gradient of
the score mean(output × target). Channels or positions are chosen at random for each sample and code. The
decoders have to do without them; the terms are CE(D_s(m z_s), y), CE(D_s(H(m z_i)), y) and
½ MSE(D_i(m z_i), x), with CE(C(p), y) of both segmentations. The codes are those of the standard pass and not
detached, so the encoder learns from them too. In the paper the masked pass is the training pass itself, so
BatchNorm records and learns in it ("shared").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coopseg.config.rivals import RscSettings
from coopseg.errors import CoopsegError
from coopseg.latent.choice import CHANNEL, SPATIAL, MaskChoice
from coopseg.latent.masks import LatentMasks, apply_mask
from coopseg.training.losses import Ledger, cross_entropy, reconstruction, soft_dice_loss, soften
from coopseg.training.passes import Codes, Passes, Truth, leaf
from coopseg.training.rival import Rival, own_networks

# The third is one of all channels, dead ones included.
RULE = LatentMasks(score="score", skip_dead=False)


@dataclass(frozen=True, eq=False)
class Choices:
    """Says for each code which samples are masked by channel and which by position."""

    image: MaskChoice
    shape: MaskChoice


class Rsc(Rival):
    """Trains the decoders on masked codes, as the module's docstring describes."""

    name = "rsc"
    norm = "shared"
    wanted = frozenset({"score"})
    settings: RscSettings

    def sample(self, image: Tensor, code: Sequence[int], generator: torch.Generator | None) -> Choices:
        """Draws for each code which samples are masked by channel and which by position."""
        return Choices(*(self._sample(code, generator).to(image.device) for _ in range(2)))

    def at_codes(
        self,
        passes: Passes,
        truth: Truth,
        drawn: Choices,
        ledger: Ledger,
        z_i: Tensor,
        read: Sequence[Tensor],
        codes: Codes,
    ) -> None:
        """Runs three passes through the decoders and frees the graph of each before the next."""
        nets, losses = own_networks(passes.networks, self.name), passes.settings.losses
        z_s, *skips = read
        if skips:
            raise CoopsegError(
                "rsc masks the shape code alone, and a U-Net reads around it: set network.kind=published"
            )
        image_mask = RULE.build(drawn.image, codes.image, codes.image_gradients["score"])
        shape_mask = RULE.build(drawn.shape, z_s.detach(), codes.shape_gradients["score"][0])
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
        """Adds CE(p, y), CE(C(p), y) and, by the settings, Dice of a masked shape code, with gradients."""
        losses = passes.settings.losses
        logits = passes.networks.segmentation_decoder(shape_code)
        p = leaf(logits)
        term = cross_entropy(p, truth.label)
        ledger.add(prefix + "segmentation", term, losses.hard * losses.segmentation).backward()
        if losses.dice:
            term = soft_dice_loss(p, truth.label)
            ledger.add(prefix + "dice", term, losses.hard * losses.dice).backward()
        if losses.stn:
            # no need to ask whether the networks cooperate yet: rivals take part only in steps where they do
            seen = p.detach() if losses.separate else p
            softened = soften(seen[:: losses.stn_every], losses.temperature)
            label = truth.label[:: losses.stn_every]
            passes.stn(softened, label, ledger, prefix + "refined", losses.hard * losses.refined)
        logits.backward(p.grad)
