"""Draws every random decision behind a latent mask once, so that the mask can be made again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

Scheme = Literal["dropout", "channel", "spatial", "mixed"]
SCHEMES = ("dropout", "channel", "spatial")
DROPOUT, CHANNEL, SPATIAL = range(3)


@dataclass(frozen=True, eq=False)
class MaskChoice:
    """Holds the draws for one code of shape (B, C, *spatial) with N positions.

    scheme: (B,) int64, index into SCHEMES.
    fraction: (B,) float32 in [0, p), u: the share of channels or positions that is masked.
    priority: (B, C) float32 in [0, 1). Dropout masks the channels of highest priority; the published
        dropout drops every channel with a priority of at least 1 - p, so each with probability p.
    channel_factor: (B, C) float32 in [0, annealing), a: the factor on a masked channel.
    position_factor: (B, N) float32 in [0, annealing), the same for positions, in row-major order.
    present: the schemes that occur, known on the host so that nothing waits for the device.

    >>> choice = sample_choice((2, 8, 3, 3), torch.Generator().manual_seed(0))
    >>> again = MaskChoice.from_state(choice.state())
    >>> torch.equal(again.fraction, choice.fraction)
    True
    """

    scheme: Tensor
    fraction: Tensor
    priority: Tensor
    channel_factor: Tensor
    position_factor: Tensor
    present: frozenset[int]

    def __len__(self) -> int:
        """Returns the number of samples B."""
        return len(self.scheme)

    @property
    def needs_gradient(self) -> bool:
        """Tells whether scores are needed; if every sample's scheme is dropout, they are not."""
        return self.present != {DROPOUT}

    def to(self, device: torch.device | str) -> MaskChoice:
        """Returns the same draws on another device."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.state().items()}
        return MaskChoice(**moved, present=self.present)

    def state(self) -> dict[str, Tensor]:
        """Returns the draws as plain tensors by name, for saving."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "present"}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> MaskChoice:
        """Reverses `state`. This reads the schemes, and so waits for the device if they are on one."""
        return cls(**state, present=frozenset(state["scheme"].tolist()))

    @classmethod
    def concat(cls, choices: Sequence[MaskChoice]) -> MaskChoice:
        """Joins the draws of several parts of a batch into those of the whole batch, in that order."""
        states = [choice.state() for choice in choices]
        joined = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        return cls(**joined, present=frozenset().union(*(choice.present for choice in choices)))


def sample_choice(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    *,
    scheme: Scheme = "mixed",
    p: float = 0.5,
    annealing: float = 0.5,
    soft: bool = True,
    scope: Literal["sample", "batch"] = "sample",
    device: torch.device | str = "cpu",
) -> MaskChoice:
    """Draws a mask's decisions for a code of `shape` (B, C, *spatial) and puts them on `device`.

    scheme: what is masked, "mixed" for one of the three at random. p: the masked fraction u is drawn from
    U(0, p), p in [0, 1]. annealing: masked features are multiplied by a factor from U(0, annealing), in
    [0, 1]; with `soft` false they become 0. scope: "batch" for one scheme and one u for all samples, as
    published; priorities and factors are each sample's own all the same.

    The draws are made on the CPU whatever the device: the same seed gives the same masks everywhere,
    and the host knows the schemes without asking. The number of draws depends on `shape` and scope only, so
    that changing the scheme or turning `soft` off leaves the rest as it was.

    Raises ValueError if `shape` has no spatial dimension.

    >>> choice = sample_choice((8, 128, 12, 12), torch.Generator().manual_seed(0), scheme="channel", p=0.3)
    >>> len(choice), bool((choice.fraction < 0.3).all()), choice.needs_gradient
    (8, True, True)
    """
    if len(shape) < 3:
        raise ValueError(f"a code has shape (B, C, *spatial), found {tuple(shape)}")
    batch, channels, positions = shape[0], shape[1], math.prod(shape[2:])
    draws = 1 if scope == "batch" else batch
    schemes = torch.randint(len(SCHEMES), (draws,), generator=generator).repeat(batch // draws)
    if scheme != "mixed":
        schemes = torch.full_like(schemes, SCHEMES.index(scheme))
    fraction = torch.rand(draws, generator=generator).repeat(batch // draws) * p
    priority = torch.rand(batch, channels, generator=generator)
    limit = annealing if soft else 0.0
    channel_factor = torch.rand(batch, channels, generator=generator) * limit
    position_factor = torch.rand(batch, positions, generator=generator) * limit
    present = frozenset(schemes.tolist())
    return MaskChoice(schemes, fraction, priority, channel_factor, position_factor, present).to(device)
