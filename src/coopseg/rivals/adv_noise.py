"""Implements adversarial noise: virtual adversarial training (Miyato et al., TPAMI 2018, section 3.2).

r is the direction in which the FTN's prediction changes most, found from a random d by one step of the power
iteration: the gradient of KL(p(x) ‖ p(x + ξ d)) with respect to d. The network then learns to keep its
prediction for x̃ = x + ε r / ‖r‖, clamped to the range of the image and not scaled again: the hard pass adds
KL(p(x) ‖ p(x̃)) to its terms. p(x) is the detached prediction for the image without input noise, by the
batch's statistics. BatchNorm is frozen in that pass, as when the method was used on these networks for
cardiac MR: running statistics are left alone, weights and biases get no gradient.

The published ξ, 1e-6 over a whole image, is lost in float32: at 128 × 128 the gradient's cosine with the
exact one was 0.12 in fresh networks and -0.18 in trained ones. At 0.01, the default, it was 0.995 and 0.999;
at 0.1, where the divergence is no longer quadratic, 0.94 and 0.99. Just below 1, bf16 values lie 0.004 apart
and TF32 values 0.0005: too coarse for ξ and for the noise itself, 0.0005 to 0.001 per pixel. Search and hard
pass therefore use neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from coopseg.config.rivals import AdvNoiseSettings
from coopseg.networks.cooperative import StepNetworks
from coopseg.networks.norm import norm_mode
from coopseg.training.losses import Ledger, divergence
from coopseg.training.passes import Further, Passes, fast_logits
from coopseg.training.rival import Batch, Example, ImageRival, like


class AdvNoise(ImageRival):
    """Trains on images with adversarial noise, as the module's docstring describes."""

    name = "adv_noise"
    norm = "frozen"
    rescale = False
    settings: AdvNoiseSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Tensor:
        """Draws the direction that the power iteration starts from: (B, C, H, W), each image's of norm 1."""
        return normalised(like(torch.randn(image.shape, generator=generator), image))

    def apply(self, batch: Batch, drawn: Tensor, networks: StepNetworks) -> Example:
        """Returns the image with its adversarial noise."""
        with full_precision(drawn.device.type):
            clean = clean_prediction(networks, batch.truth.image)
            return Example(self.perturb(batch.truth.image, clean, drawn, networks), batch.truth)

    def add(self, passes: Passes, batch: Batch, drawn: Tensor, ledger: Ledger) -> None:
        """Runs the hard pass, with the divergence from the clean prediction as a further term."""
        image, nets = batch.truth.image, passes.networks
        with full_precision(image.device.type):
            clean = clean_prediction(nets, image)
            apart = Further("consistency", self.settings.consistency, lambda p: divergence(clean, p))
            inputs = self.perturb(image, clean, drawn, nets)
            self.hard_pass(passes, batch, inputs, ledger, further=[apart])

    def perturb(self, image: Tensor, clean: Tensor, direction: Tensor, networks: StepNetworks) -> Tensor:
        """Returns image + ε r / ‖r‖, detached. clean: the logits for `image`. direction: the start of r."""
        with norm_mode(*networks.children(), record=False, learn=True):
            for _ in range(self.settings.steps):
                step = (self.settings.probe * direction).requires_grad_()
                (gradient,) = torch.autograd.grad(
                    divergence(clean, fast_logits(networks, image + step)), step
                )
                direction = normalised(gradient)
        length = self.settings.epsilon * (lengths(image) if self.settings.relative else 1.0)
        low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
        return torch.clamp(image + length * direction, low, high)


@torch.no_grad()
def clean_prediction(networks: StepNetworks, image: Tensor) -> Tensor:
    """Returns the FTN's logits for images (B, C, H, W) in the networks' current mode, and records nothing.

    The logits of the standard pass cannot serve: its input noise would hide a small perturbation.
    """
    with norm_mode(*networks.children(), record=False, learn=True):
        return fast_logits(networks, image)


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Makes networks run in the type of their parameters within the block, without bf16 and TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def lengths(image: Tensor) -> Tensor:
    """Returns the L2 norm of each image of (B, C, H, W), as (B, 1, 1, 1)."""
    return image.square().sum((1, 2, 3), keepdim=True).sqrt()


def normalised(image: Tensor) -> Tensor:
    """Divides each image of (B, C, H, W) by its L2 norm; an image of zeros stays as it is."""
    largest = image.abs().amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(image.dtype).tiny)
    scaled = image / largest  # squares of small gradients would be 0
    return scaled / lengths(scaled).clamp_min(1)
