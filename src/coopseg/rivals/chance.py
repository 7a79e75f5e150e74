"""Draws the parameters of operations that are applied with a probability."""

from __future__ import annotations

import torch
from torch import Tensor

Range = tuple[float, float]


def perhaps(
    p: float, *ranges: Range, otherwise: float, batch: int, generator: torch.Generator | None
) -> Tensor:
    """Draw (batch,) values: with probability p uniform in a range picked at random, else `otherwise`."""
    chosen = torch.rand(batch, generator=generator) < p
    part = len(ranges) * torch.rand(batch, generator=generator)
    which = part.long()
    low, high = torch.tensor(ranges, dtype=part.dtype)[which].unbind(1)
    return torch.where(chosen, low + (high - low) * (part - which), otherwise)


def around_one(values: Range) -> tuple[Range, Range]:
    """Split a range at 1, for a factor that is as likely to be below as above."""
    low, high = values
    return (low, 1.0), (1.0, high)
