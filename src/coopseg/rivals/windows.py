"""Marks rectangular windows in images."""

from __future__ import annotations

import torch
from torch import Tensor


def covered(start: Tensor, length: Tensor, size: torch.Size) -> Tensor:
    """Mark the pixels of `size` that each window covers: (B, N, H, W) bool.

    start, length: (B, N, 2), rows then columns.
    """

    def along(axis: int) -> Tensor:
        pixels = torch.arange(size[axis], device=start.device)
        first = start[..., axis, None]
        return (pixels >= first) & (pixels < first + length[..., axis, None])

    return along(0)[..., None] & along(1)[..., None, :]
