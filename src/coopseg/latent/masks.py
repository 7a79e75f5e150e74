"""Builds and applies the mask that makes a hard example out of a code (Chen et al. 2021, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.config.settings import LatentSettings
from coopseg.latent.choice import DROPOUT, SCHEMES, SPATIAL, MaskChoice, Scheme, sample_choice
from coopseg.networks.norm import norm_mode

Rule = Literal["gradient", "saliency", "magnitude", "score"]
Ties = Literal["exact", "strict"]


@dataclass(frozen=True, kw_only=True)
class LatentMasks:
    """Masks codes of any network, (B, C, *spatial) with any number of spatial dimensions.

    The code of each sample is masked by channel or by position, where that is thought to raise the loss most.
    scheme, p, annealing, soft, scope: see `sample_choice`. score, ties, skip_dead, published_dropout: see
    `build_mask`. Raises CoopsegError for a value out of range.

    >>> masks, generator = LatentMasks(scheme="mixed", p=0.5), torch.Generator().manual_seed(0)
    >>> code = torch.rand(4, 32, 6, 6, 6, requires_grad=True)
    >>> loss = (code.mean(1) ** 2).mean()
    >>> (gradient,) = torch.autograd.grad(loss, code)
    >>> masks(code, gradient, generator).shape
    torch.Size([4, 32, 6, 6, 6])
    """

    scheme: Scheme = "mixed"
    p: float = 0.5
    annealing: float = 0.5
    soft: bool = True
    score: Rule = "gradient"
    ties: Ties = "exact"
    skip_dead: bool = True
    scope: Literal["sample", "batch"] = "sample"
    published_dropout: bool = False

    def __post_init__(self) -> None:
        LatentSettings.checked(asdict(self))

    @classmethod
    def of(cls, settings: LatentSettings) -> LatentMasks:
        """Returns the masks that the settings of a training describe."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})

    def __call__(
        self, code: Tensor, gradient: Tensor | None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws a mask and returns the masked code; gradient as for `build_mask`."""
        return apply_mask(code, self.build(self.sample(code.shape, generator, code.device), code, gradient))

    def sample(
        self,
        shape: Sequence[int],
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> MaskChoice:
        """Draws the decisions for a code of `shape`, as `sample_choice` does."""
        return sample_choice(
            shape,
            generator,
            scheme=self.scheme,
            p=self.p,
            annealing=self.annealing,
            soft=self.soft,
            scope=self.scope,
            device=device,
        )

    def build(
        self,
        choice: MaskChoice,
        code: Tensor,
        gradient: Tensor | None = None,
        region: Tensor | None = None,
    ) -> Tensor:
        """Builds the mask of `choice`, as `build_mask` does."""
        return build_mask(
            choice,
            code,
            gradient,
            score=self.score,
            ties=self.ties,
            skip_dead=self.skip_dead,
            published_dropout=self.p if self.published_dropout else None,
            region=region,
        )

    def sample_levels(
        self,
        shapes: Sequence[Sequence[int]],
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> list[MaskChoice]:
        """Draws decisions for the codes of several levels, the deepest first: one scheme and u per sample."""
        first, *others = (self.sample(shape, generator, device) for shape in shapes)
        return [
            first,
            *(
                replace(choice, scheme=first.scheme, fraction=first.fraction, present=first.present)
                for choice in others
            ),
        ]

    def build_levels(
        self, choices: Sequence[MaskChoice], codes: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """Builds a mask for each level, which a decoder cannot read around at another.

        Each level ranks its own channels. Positions are ranked at the first, the deepest, and the region
        that is masked there is masked at every level.
        """
        masks: list[Tensor] = []
        for choice, code, gradient in zip(choices, codes, gradients, strict=True):
            region = F.interpolate(masks[0][:, :1], size=code.shape[2:]) if masks else None
            masks.append(self.build(choice, code, gradient, region))
        return masks

    @torch.no_grad()
    def decode(
        self,
        decoder: nn.Module,
        codes: Sequence[Tensor],
        choices: Sequence[MaskChoice],
        gradients: Sequence[Tensor | None],
    ) -> Tensor:
        """Returns the hard example decoder(*masked codes), detached; running statistics stay.

        codes, gradients: (B, C, *spatial) each; the code, then any skips that the decoder reads beside it,
        with the gradients that `build_mask` asks for. choices: see `sample_levels`.
        """
        masks = self.build_levels(choices, codes, gradients)
        with norm_mode(decoder, record=False, learn=True):
            return decoder(*map(apply_mask, codes, masks))


@torch.no_grad()
def build_mask(
    choice: MaskChoice,
    code: Tensor,
    gradient: Tensor | None = None,
    *,
    score: Rule = "gradient",
    ties: Ties = "exact",
    skip_dead: bool = True,
    published_dropout: float | None = None,
    region: Tensor | None = None,
) -> Tensor:
    """Builds the mask of `choice` for this code: 1 where kept, the factor a (0 without `soft`) where masked.

    code: (B, C, *spatial), any number of spatial dimensions. gradient: of the code's shape, what the rule
    `score` asks for, see `scores`; may be None if `choice.needs_gradient` is False.
    Returns a mask of the code's dtype that broadcasts to it: (B, C, 1, ...) if no sample is masked by
    position, (B, 1, *spatial) if all are, else (B, C, *spatial). It carries no gradient.

    Of n elements, int(u·n) are masked, with u·n computed in float32:
    - dropout, channel: n is the number of a sample's channels. With `skip_dead`, channels that are 0
      everywhere do not count and are never masked. spatial: n is the number of all positions, dead or not.
    - ties "exact": exactly that many, and of equal scores the first. "strict": the elements strictly above
      entry int(u·n), counted from 0, of the scores in descending order, so fewer if scores tie.
    - `published_dropout` p replaces dropout: every channel, dead or not, becomes 0 with probability p, and
      the others are multiplied by 1 / (1 - p); u and a are not used.
    - `region`, a mask (B, 1, *spatial), replaces the spatial scheme's ranking.

    Raises ValueError if the choice was drawn for another shape, or a gradient is needed and missing.

    >>> choice = sample_choice((1, 4, 2, 2), torch.Generator().manual_seed(1), scheme="dropout", soft=False)
    >>> build_mask(choice, torch.ones(1, 4, 2, 2)).flatten()
    tensor([1., 1., 1., 1.])
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
        channel_score, position_score = scores(score, code=code, gradient=gradient)

    ones = [1] * len(spatial)
    by_position = torch.ones(batch, 1, *ones) if region is None else region
    if region is None and SPATIAL in choice.present:
        by_position = _position_mask(choice, position_score, ties).reshape(batch, 1, *spatial)
    by_position = by_position.to(code.dtype)
    if choice.present == {SPATIAL}:
        return by_position
    by_channel = _channel_mask(choice, code if skip_dead else None, channel_score, ties, published_dropout)
    by_channel = by_channel.reshape(batch, channels, *ones).to(code.dtype)
    if SPATIAL not in choice.present:
        return by_channel
    is_spatial = (choice.scheme == SPATIAL).reshape(batch, 1, *ones)
    return torch.where(is_spatial, by_position, by_channel)


def apply_mask(code: Tensor, mask: Tensor) -> Tensor:
    """Returns the masked code, code × mask: (B, C, *spatial), in the code's dtype.

    >>> apply_mask(torch.tensor([[[2.0, 3.0]]]), torch.tensor([[[1.0, 0.5]]]))
    tensor([[[2.0000, 1.5000]]])
    """
    return code * mask.to(code.dtype)


def scores(rule: Rule, *, code: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Scores each channel and each position of `code`; the highest are masked first.

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

    >>> code, gradient = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.ones(1, 2, 2)
    >>> by_channel, by_position = scores("saliency", code=code, gradient=gradient)
    >>> by_channel, by_position
    (tensor([[-1.5000, -3.5000]]), tensor([[-2., -3.]]))
    """
    wide = torch.promote_types(gradient.dtype, torch.float32)
    value = gradient.to(wide).flatten(2)
    if rule == "saliency":
        value = -value * code.to(wide).flatten(2)
    elif rule == "magnitude":
        value = value.abs()
    return value.mean(2), value.mean(1)


def highest(score: Tensor, count: Tensor, *, ties: Ties) -> Tensor:
    """Marks the `count` (B,) highest of each row of `score` (B, n); ties as in `build_mask`. Bool (B, n).

    Ranks are used because top-k needs one count for all rows, known on the host.
    """
    ordered, order = score.sort(dim=1, descending=True, stable=True)
    if ties == "strict":
        return score > ordered.gather(1, count[:, None].clamp(max=score.shape[1] - 1))
    return order.argsort(dim=1) < count[:, None]


def _position_mask(choice: MaskChoice, score: Tensor, ties: Ties) -> Tensor:
    """Returns the (B, N) mask of the spatial scheme; rows of other samples hold no meaning."""
    masked = highest(score, (choice.fraction * score.shape[1]).long(), ties=ties)
    return torch.where(masked, choice.position_factor, 1.0)


def _channel_mask(
    choice: MaskChoice, code: Tensor | None, score: Tensor, ties: Ties, published_dropout: float | None
) -> Tensor:
    """Returns the (B, C) mask of dropout and channel schemes; rows of spatial samples hold no meaning.

    code: None to treat dead channels as any other.
    """
    dropout = (choice.scheme == DROPOUT)[:, None]
    score = torch.where(dropout, choice.priority.to(score.dtype), score)
    alive = (code != 0).flatten(2).any(2) if code is not None else torch.ones_like(score, dtype=torch.bool)
    score = score.masked_fill(~alive, -torch.inf)
    masked = highest(score, (choice.fraction * alive.sum(1)).long(), ties=ties)
    mask = torch.where(masked, choice.channel_factor, 1.0)
    if published_dropout is None:
        return mask
    keep = (choice.priority < 1 - published_dropout).to(mask.dtype)
    return torch.where(dropout, keep / max(1 - published_dropout, torch.finfo(keep.dtype).tiny), mask)


@torch.no_grad()
def rise_by_scheme(choice: MaskChoice, *, clean: Tensor, hard: Tensor) -> Tensor:
    """Measures how much each scheme raised the loss: (3, 3), a row for each of SCHEMES.

    A row holds the sum of the clean losses, the sum of the hard ones, and the number of samples.
    clean, hard: (B,) losses of each sample without and with the mask. Sums can be added up over steps; the
    ratio is taken when the log is read.

    >>> choice = sample_choice((2, 8, 3, 3), torch.Generator().manual_seed(0), scheme="spatial")
    >>> rise_by_scheme(choice, clean=torch.tensor([1.0, 2.0]), hard=torch.tensor([2.0, 4.0]))[2]
    tensor([3., 6., 2.])
    """
    rows = torch.stack([clean, hard, torch.ones_like(clean)], 1).float()
    return torch.zeros(len(SCHEMES), 3, device=rows.device).index_add_(0, choice.scheme, rows)
