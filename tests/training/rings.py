"""Images that a network learns in a few steps."""

from __future__ import annotations

import torch
from torch import Tensor


def rings(generator: torch.Generator, batch: int = 8, side: int = 64) -> tuple[Tensor, Tensor]:
    """Nested discs as images and labels: something that can be learned in a few steps."""
    rows, columns = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    centre = side * (0.25 + 0.5 * torch.rand(batch, 2, 1, 1, generator=generator))
    radius = ((rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2).sqrt()
    label = torch.stack([radius < side * r for r in (0.1, 0.2, 0.3)]).sum(0)
    noise = 0.2 * torch.rand(label.shape, generator=generator)
    return (label / 3 + noise).clamp(0, 1).unsqueeze(1), label
