"""Makes hard examples, corrupted images or segmentations, from a code and its gradient (Chen et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coopseg.config.settings import LatentSettings
from coopseg.latent.choice import SCHEMES, MaskChoice
from coopseg.latent.masks import apply_mask, build_mask
from coopseg.networks.norm import norm_mode, norms


@torch.no_grad()
def decode_masked(
    decoder: nn.Module, code: Tensor, *, choice: MaskChoice, gradient: Tensor | None, settings: LatentSettings
) -> Tensor:
    """Returns x̂ = D_i(mask(z_i)) or p̂ = D_s(mask(z_s)), detached; running statistics are not updated.

    code, gradient: (B, C, h, w); the gradient is as for `build_mask`, None if the choice needs none.
    """
    mask = build_mask(choice, code=code, gradient=gradient, settings=settings)
    with norm_mode(norms(decoder), record=False, learn=True):
        return decoder(apply_mask(code, mask))


@torch.no_grad()
def rise_by_scheme(choice: MaskChoice, *, clean: Tensor, hard: Tensor) -> Tensor:
    """Measures how much each scheme raised the loss: (3, 3), a row for each of SCHEMES.

    A row holds the sum of the clean losses, the sum of the hard ones, and the number of samples.
    clean, hard: (B,) losses of each sample without and with the mask. Sums can be added up over steps; the
    ratio is taken when the log is read.
    """
    rows = torch.stack([clean, hard, torch.ones_like(clean)], 1).float()
    return torch.zeros(len(SCHEMES), 3, device=rows.device).index_add_(0, choice.scheme, rows)
