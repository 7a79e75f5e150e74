"""Masks features of MONAI's UNet while it trains, to measure which levels are best masked.

python scripts/screen.py ... NAME monai-unet+masked_levels:MaskedLevels 1500 rivals.levels.at=deep
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from coopseg.config.section import Section
from coopseg.latent import LatentMasks, MaskedFeatures
from coopseg.networks.other import OtherNetworks
from coopseg.training.losses import Ledger, cross_entropy
from coopseg.training.passes import Passes
from coopseg.training.rival import Batch, Rival


class MaskedLevelsSettings(Section):
    """Says which features are masked, and by what they are ranked."""

    at: Literal["all", "deep", "bottleneck"] = "all"
    score: Literal["gradient", "saliency"] = "saliency"  # its features can be negative


class MaskedLevels(Rival):
    """Adds a pass in which the decoder reads masked features."""

    name = "levels"
    section = MaskedLevelsSettings
    settings: MaskedLevelsSettings

    def sample(self, image: Tensor, code: Sequence[int], generator: torch.Generator | None) -> int:
        """Draws a seed: the shapes of the features are known once they are recorded."""
        return int(torch.randint(2**31, (), generator=generator))

    def add(self, passes: Passes, batch: Batch, drawn: int, ledger: Ledger) -> None:
        """Records the features of the batch, and trains on them masked."""
        networks = passes.networks
        assert isinstance(networks, OtherNetworks)
        masks = LatentMasks(scheme="mixed", p=0.5, score=self.settings.score)
        features = MaskedFeatures(networks.segmenter, masks, levels=self.settings.at)
        with features.recorded():
            loss = cross_entropy(networks.segmenter(batch.truth.image), batch.truth.label)
        features.rank_by(loss)
        with features.masked(features.sample(torch.Generator().manual_seed(drawn))):
            self.hard_pass(passes, batch, batch.truth.image, ledger)
