"""Implements MixStyle and DSU as layers for the features of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coopseg.config import rivals as settings
from coopseg.rivals import styles


class MixStyle(nn.Module):
    """Mixes the style of features with another sample's, in training mode (Zhou et al. 2021).

    p: probability that a batch is styled, in [0, 1]. alpha: the mixing factor is drawn from Beta(alpha,
    alpha). generator: on the CPU; None for torch's own. Maps (B, C, *spatial) to the same shape; the gradient
    flows through the features, but not through their styles. Raises CoopsegError for a value out of range.

    >>> import torch
    >>> layer = MixStyle(p=1.0, generator=torch.Generator().manual_seed(0))
    >>> features = torch.rand(4, 8, 6, 6, 6)
    >>> bool((layer(features) != features).any()), layer.eval()(features) is features
    (True, True)
    """

    def __init__(self, p: float = 0.5, alpha: float = 0.1, generator: torch.Generator | None = None) -> None:
        super().__init__()
        settings.MixStyleSettings.checked({"p": p, "alpha": alpha})
        self.p, self.alpha, self.generator = p, alpha, generator

    def forward(self, features: Tensor) -> Tensor:
        """Returns features (B, C, *spatial), styled or as they are."""
        if not self.training or torch.rand((), generator=self.generator) >= self.p:
            return features
        return styles.mix_styles(features, styles.sample_mix(features, self.alpha, self.generator))


class DSU(nn.Module):
    """Adds noise to the style of features, as wide as it varies over the batch, in training (Li et al. 2022).

    p: probability that a batch is styled, in [0, 1]. generator: on the CPU; None for torch's own. Maps
    (B, C, *spatial) to the same shape. Raises CoopsegError for a value out of range and for a batch of one.

    >>> import torch
    >>> layer = DSU(p=1.0, generator=torch.Generator().manual_seed(0))
    >>> features = torch.rand(4, 8, 6, 6)
    >>> layer(features).shape, layer.eval()(features) is features
    (torch.Size([4, 8, 6, 6]), True)
    """

    def __init__(self, p: float = 0.5, generator: torch.Generator | None = None) -> None:
        super().__init__()
        settings.DsuSettings.checked({"p": p})
        self.p, self.generator = p, generator

    def forward(self, features: Tensor) -> Tensor:
        """Returns features (B, C, *spatial), styled or as they are."""
        if not self.training or torch.rand((), generator=self.generator) >= self.p:
            return features
        noise = styles.sample_noise(features.shape[1], features, self.generator)
        return styles.disturb_style(features, noise)
