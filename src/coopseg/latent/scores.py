"""Scores how much a channel, or a position, of a code matters to the task; targeted masks rank by this."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Rule = Literal["gradient", "saliency", "magnitude", "score"]


def scores(rule: Rule, *, code: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Score each channel and each position of `code`; the highest are masked first.

    code, gradient: (B, C, *spatial). `gradient` is the derivative of the task loss with respect to the
    code; for the rule "score", the caller differentiates mean(output × target) instead.
    Returns (B, C), the means over positions, and (B, N), the means over channels with the positions
    flattened in row-major order, in float32 or wider.

    - "gradient": mean of the signed gradient g of the loss (the published rule, Chen et al. 2021,
      section 2.3). Codes are non-negative, so it favours features whose removal *lowers* the loss to
      first order: not the hardest choice.
    - "saliency": mean of the products -g·z: to first order, the rise of the loss when z becomes 0
      (the Taylor criterion of Molchanov et al. 2017, "Pruning convolutional neural networks for
      resource efficient inference", keeping its sign).
    - "magnitude": mean of |g|, sensitivity without direction.
    - "score": mean of the gradient of mean(output × target). It favours features that support the target:
      the rule of Huang et al. 2020, "Self-challenging improves cross-domain generalization", equation 2.
    """
    wide = torch.promote_types(gradient.dtype, torch.float32)
    value = gradient.to(wide).flatten(2)
    if rule == "saliency":
        value = -value * code.to(wide).flatten(2)
    elif rule == "magnitude":
        value = value.abs()
    return value.mean(2), value.mean(1)
