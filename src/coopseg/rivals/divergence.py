"""Measures how far a prediction lies from the clean one: by its classes and by its contours."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norm_mode, norms
from coopseg.training.losses import wide


@torch.no_grad()
def clean_prediction(networks: Networks, image: Tensor) -> Tensor:
    """Returns the FTN's logits for images (B, C, H, W) in the networks' current mode, and records nothing.

    The logits of the standard pass cannot serve: its input noise would hide a small perturbation.
    """
    with norm_mode(norms(networks.image_encoder, networks.segmentation_decoder), record=False, learn=True):
        return networks.fast(image)


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
