"""Defines the loss terms of Chen et al. 2021 (equations 1 to 3) and of rivals, each as a pure function."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

FLAT = 1e-5  # greatest range that rounding leaves in a constant image in [0, 1]


def wide(tensor: Tensor) -> Tensor:
    """Converts to at least float32, in which losses are taken whatever precision the networks run in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Returns CE(p, y), the unweighted mean over pixels. Scalar.

    logits: (B, classes, H, W). label: (B, H, W) integers, or (B, classes, H, W) shares of the classes, which
    weight the terms of the classes.
    """
    return F.cross_entropy(wide(logits), label)


def soft_dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Returns the mean of 1 - 2 Σ p y / (Σ p² + Σ y²) over images and classes, background included. Scalar.

    p is the softmax of logits (B, classes, H, W), y the one-hot label (B, H, W), or shares as for
    `cross_entropy`; the sums are over the pixels of an image. A class that an image does not show counts as 1
    whatever is predicted, and has no gradient.
    """
    p = wide(logits).softmax(1)
    y = label if label.ndim == p.ndim else one_hot(label, p.shape[1], p)
    overlap = (p * y).flatten(2).sum(2)
    size = (p.square() + y.square()).flatten(2).sum(2).clamp_min(torch.finfo(p.dtype).tiny)
    return 1 - (2 * overlap / size).mean()


def reconstruction(decoded: Tensor, image: Tensor) -> Tensor:
    """Returns MSE(x', x) over (B, C, H, W) in [0, 1]. Scalar; the paper's factor ½ is a weight, not here."""
    return F.mse_loss(wide(decoded), image)


def divergence(clean: Tensor, logits: Tensor) -> Tensor:
    """Returns KL(softmax(clean) ‖ softmax(logits)), a scalar: the mean over pixels of (B, classes, H, W)."""
    expected, found = wide(clean).log_softmax(1), wide(logits).log_softmax(1)
    return (expected.exp() * (expected - found)).sum(1).mean()


def contour_distance(clean: Tensor, logits: Tensor) -> Tensor:
    """Returns the mean squared difference of the foreground probabilities' edge maps (Chen et al. 2020, 2.3).

    Edge maps are the Sobel derivatives (1, 2, 1) × (-1, 0, 1) along both axes, with zeros beyond the border.
    The mean, a scalar, is over images, classes except the background, both derivatives and pixels.
    """
    difference = (wide(clean).softmax(1) - wide(logits).softmax(1))[:, 1:]
    filters = _sobel().to(difference)
    # bf16 would round away the difference of two nearly equal predictions
    with torch.autocast(difference.device.type, enabled=False):
        return F.conv2d(difference.flatten(0, 1)[:, None], filters, padding=1).square().mean()


@cache
def _sobel() -> Tensor:
    """Returns the filters (2, 1, 3, 3): the derivative along columns, then along rows."""
    along_columns = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    return torch.stack([along_columns, along_columns.T])[:, None]


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Returns softmax(p / T) over classes, which the STN reads: (B, classes, H, W), summing to 1."""
    return torch.softmax(logits / temperature, 1)


def one_hot(label: Tensor, classes: int, like: Tensor) -> Tensor:
    """Turns a label map (B, *spatial) into 0 and 1, (B, classes, *spatial), in type and layout of `like`."""
    planes = torch.arange(classes, device=label.device).view(-1, *[1] * (label.ndim - 1))
    by_pixel = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if by_pixel else torch.contiguous_format
    return (label.unsqueeze(1) == planes).to(like.dtype, memory_format=layout)


def rescale_slices(image: Tensor) -> Tensor:
    """Scales each channel of (B, C, *spatial) to [0, 1]; one with a range of at most FLAT becomes 0."""
    within = tuple(range(2, image.ndim))
    low, high = image.amin(within, keepdim=True), image.amax(within, keepdim=True)
    # compared this way, an image that is not finite stays so, and is noticed
    return torch.where(high - low <= FLAT, 0.0, (image - low) / (high - low).clamp_min(FLAT))


class Ledger:
    """Keeps what the log needs of every loss term."""

    def __init__(self) -> None:
        self.terms: dict[str, Tensor] = {}  # unweighted, detached
        self.weighted: list[Tensor] = []

    def add(self, name: str, term: Tensor, weight: float) -> Tensor:
        """Notes a scalar term under `name`; returns it weighted, to be differentiated."""
        weighted = weight * term
        self.terms[name] = term.detach()
        self.weighted.append(weighted.detach())
        return weighted

    @property
    def losses(self) -> dict[str, Tensor]:
        """Returns every term, unweighted, and the weighted "total"."""
        return {**self.terms, "total": sum(self.weighted[1:], self.weighted[0])}
