"""Defines the loss terms of Chen et al. 2021 (equations 1 to 3), each as a pure function."""

from __future__ import annotations

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
    overlap = (p * y).sum((2, 3))
    size = (p.square() + y.square()).sum((2, 3)).clamp_min(torch.finfo(p.dtype).tiny)
    return 1 - (2 * overlap / size).mean()


def reconstruction(decoded: Tensor, image: Tensor) -> Tensor:
    """Returns MSE(x', x) over (B, C, H, W) in [0, 1]. Scalar; the paper's factor ½ is a weight, not here."""
    return F.mse_loss(wide(decoded), image)


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Returns softmax(p / T) over classes, which the STN reads: (B, classes, H, W), summing to 1."""
    return torch.softmax(logits / temperature, 1)


def one_hot(label: Tensor, classes: int, like: Tensor) -> Tensor:
    """Turns a label map (B, H, W) into 0 and 1, (B, classes, H, W), in type and memory layout of `like`."""
    planes = torch.arange(classes, device=label.device).view(1, -1, 1, 1)
    layout = (
        torch.channels_last
        if like.is_contiguous(memory_format=torch.channels_last)
        else torch.contiguous_format
    )
    return (label.unsqueeze(1) == planes).to(like.dtype, memory_format=layout)


def rescale_slices(image: Tensor) -> Tensor:
    """Scales each image of (B, C, H, W) to [0, 1]; one with a range of at most FLAT becomes 0."""
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    # compared this way, an image that is not finite stays so, and is noticed
    return torch.where(high - low <= FLAT, 0.0, (image - low) / (high - low).clamp_min(FLAT))
