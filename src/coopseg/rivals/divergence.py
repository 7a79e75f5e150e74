"""How far a prediction lies from the clean one: by its classes and by its contours."""

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
    """The FTN's logits for images (B, C, H, W), in the mode the networks are in, recording nothing.

    The standard pass has seen the image under noise, beside which a small perturbation could not be told.
    """
    with norm_mode(norms(networks.image_encoder, networks.segmentation_decoder), record=False, learn=True):
        return networks.fast(image)


def divergence(clean: Tensor, logits: Tensor) -> Tensor:
    """KL(softmax(clean) ‖ softmax(logits)), the mean over pixels of (B, classes, H, W). Scalar."""
    expected, found = wide(clean).log_softmax(1), wide(logits).log_softmax(1)
    return (expected.exp() * (expected - found)).sum(1).mean()


def contour_distance(clean: Tensor, logits: Tensor) -> Tensor:
    """Mean squared difference of the edge maps of the foreground's probabilities (Chen et al. 2020, 2.3).

    Edge maps are the Sobel derivatives (1, 2, 1) × (-1, 0, 1) along both axes, beyond the border 0. The
    mean is over images, classes but the background, both derivatives and pixels. Scalar.
    """
    difference = (wide(clean).softmax(1) - wide(logits).softmax(1))[:, 1:]
    filters = _sobel().to(difference)
    # bf16 would round what is left where two predictions are nearly the same
    with torch.autocast(difference.device.type, enabled=False):
        return F.conv2d(difference.flatten(0, 1)[:, None], filters, padding=1).square().mean()


@cache
def _sobel() -> Tensor:
    """(2, 1, 3, 3): the derivative along columns, and along rows."""
    along_columns = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    return torch.stack([along_columns, along_columns.T])[:, None]
