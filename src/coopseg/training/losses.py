"""The loss terms of Chen et al. 2021 (equations 1 to 3), each as a pure function."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FLAT = 1e-5  # of images in [0, 1]: what rounding leaves of a constant one


def wide(tensor: Tensor) -> Tensor:
    """Losses are taken in float32 at least, whatever precision the networks run in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """CE(p, y): unweighted mean over pixels. Scalar.

    logits (B, classes, H, W). label: (B, H, W) integers, or (B, classes, H, W) shares of the classes, for
    which it is the mean of the classes' terms by their shares.
    """
    return F.cross_entropy(wide(logits), label)


def soft_dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Dice loss 1 - 2 Σ p y / (Σ p² + Σ y²), averaged over images and classes, the background too. Scalar.

    p is the softmax of logits (B, classes, H, W), y the one-hot label (B, H, W), or shares as for
    `cross_entropy`; the sums are over the pixels of an image. A class that an image does not show counts 1
    whatever is predicted, and has no gradient.
    """
    p = wide(logits).softmax(1)
    y = label if label.ndim == p.ndim else one_hot(label, p.shape[1], p)
    overlap = (p * y).sum((2, 3))
    size = (p.square() + y.square()).sum((2, 3)).clamp_min(torch.finfo(p.dtype).tiny)
    return 1 - (2 * overlap / size).mean()


def reconstruction(decoded: Tensor, image: Tensor) -> Tensor:
    """MSE(x', x) over (B, C, H, W) in [0, 1]. Scalar; the factor ½ of the paper is a weight, not here."""
    return F.mse_loss(wide(decoded), image)


def soften(logits: Tensor, temperature: float) -> Tensor:
    """softmax(p / T) over classes: what the STN reads. (B, classes, H, W), sums to 1 over classes."""
    return torch.softmax(logits / temperature, 1)


def one_hot(label: Tensor, classes: int, like: Tensor) -> Tensor:
    """Label map (B, H, W) -> (B, classes, H, W) of 0 and 1 in the type and memory layout the networks use."""
    planes = torch.arange(classes, device=label.device).view(1, -1, 1, 1)
    layout = (
        torch.channels_last
        if like.is_contiguous(memory_format=torch.channels_last)
        else torch.contiguous_format
    )
    return (label.unsqueeze(1) == planes).to(like.dtype, memory_format=layout)


def rescale_slices(image: Tensor) -> Tensor:
    """Scale each image of (B, C, H, W) to [0, 1]; one whose values all lie within FLAT becomes 0."""
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    # so compared, an image that is not finite stays so, and is seen
    return torch.where(high - low <= FLAT, 0.0, (image - low) / (high - low).clamp_min(FLAT))
