"""Builds the multiplicative mask that makes a hard example out of a code (Chen et al. 2021, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from coopseg.config.settings import LatentSettings
from coopseg.latent.choice import DROPOUT, SPATIAL, MaskChoice
from coopseg.latent.scores import scores


@torch.no_grad()
def build_mask(
    choice: MaskChoice, *, code: Tensor, gradient: Tensor | None, settings: LatentSettings
) -> Tensor:
    """Builds the mask of `choice` for this code: 1 where kept, the factor a (0 without `soft`) where masked.

    code: (B, C, *spatial), any number of spatial dimensions. gradient: of the code's shape, see
    `coopseg.latent.scores.scores`; may be None if `choice.needs_gradient` is False.
    Returns a mask of the code's dtype that broadcasts to it: (B, C, 1, ...) if no sample is masked by
    position, (B, 1, *spatial) if all are, else (B, C, *spatial). It carries no gradient.

    Of n elements, int(u·n) are masked, with u·n computed in float32:
    - dropout, channel: n is the number of a sample's channels. With `skip_dead`, channels that are 0
      everywhere do not count and are never masked. spatial: n is the number of all positions, dead or not.
    - ties "exact": exactly that many, and of equal scores the first. "strict": the elements strictly above
      entry int(u·n), counted from 0, of the scores in descending order, so fewer if scores tie.
    - `published_dropout` replaces dropout: every channel, dead or not, becomes 0 with probability p, and the
      others are multiplied by 1 / (1 - p); u and a are not used.

    Raises ValueError if the choice was drawn for another shape, or a gradient is needed and missing.
    """
    batch, channels, *spatial = code.shape
    drawn = (*choice.priority.shape, choice.position_factor.shape[1])
    if drawn != tuple(code.flatten(2).shape):
        raise ValueError(f"the choice was drawn for (B, C, N) = {drawn}, the code is {tuple(code.shape)}")
    if gradient is None:
        if choice.needs_gradient:
            raise ValueError("channel and spatial masks need the gradient with respect to the code")
        channel_score = position_score = choice.priority
    else:
        channel_score, position_score = scores(settings.score, code=code, gradient=gradient)

    ones = [1] * len(spatial)
    if choice.present == {SPATIAL}:
        return _position_mask(choice, position_score, settings).reshape(batch, 1, *spatial).to(code.dtype)
    by_channel = _channel_mask(choice, code=code, score=channel_score, settings=settings)
    by_channel = by_channel.reshape(batch, channels, *ones).to(code.dtype)
    if SPATIAL not in choice.present:
        return by_channel
    by_position = _position_mask(choice, position_score, settings).reshape(batch, 1, *spatial).to(code.dtype)
    is_spatial = (choice.scheme == SPATIAL).reshape(batch, 1, *ones)
    return torch.where(is_spatial, by_position, by_channel)


def apply_mask(code: Tensor, mask: Tensor) -> Tensor:
    """Returns the masked code, code × mask: (B, C, *spatial), in the code's dtype."""
    return code * mask.to(code.dtype)


def highest(score: Tensor, count: Tensor, *, ties: str) -> Tensor:
    """Marks the `count` (B,) highest of each row of `score` (B, n); ties as in `build_mask`. Bool (B, n).

    Ranks are used because top-k needs one count for all rows, known on the host.
    """
    ordered, order = score.sort(dim=1, descending=True, stable=True)
    if ties == "strict":
        return score > ordered.gather(1, count[:, None].clamp(max=score.shape[1] - 1))
    return order.argsort(dim=1) < count[:, None]


def _position_mask(choice: MaskChoice, score: Tensor, settings: LatentSettings) -> Tensor:
    """Returns the (B, N) mask of the spatial scheme; rows of other samples hold no meaning."""
    masked = highest(score, (choice.fraction * score.shape[1]).long(), ties=settings.ties)
    return torch.where(masked, choice.position_factor, 1.0)


def _channel_mask(choice: MaskChoice, *, code: Tensor, score: Tensor, settings: LatentSettings) -> Tensor:
    """Returns the (B, C) mask of dropout and channel schemes; rows of spatial samples hold no meaning."""
    dropout = (choice.scheme == DROPOUT)[:, None]
    score = torch.where(dropout, choice.priority.to(score.dtype), score)
    alive = (code != 0).flatten(2).any(2) if settings.skip_dead else torch.ones_like(score, dtype=torch.bool)
    score = score.masked_fill(~alive, -torch.inf)
    masked = highest(score, (choice.fraction * alive.sum(1)).long(), ties=settings.ties)
    mask = torch.where(masked, choice.channel_factor, 1.0)
    if not settings.published_dropout:
        return mask
    keep = (choice.priority < 1 - settings.p).to(mask.dtype)
    return torch.where(dropout, keep / max(1 - settings.p, torch.finfo(keep.dtype).tiny), mask)
