"""Implements adversarial bias: uneven brightness that moves the prediction most (Chen et al., MICCAI 2020).

The field is exp(f), where f is a uniform cubic B-spline surface with control points c, half an image's side
apart. It is made at half the resolution and then interpolated linearly. c starts from
U(log(1 - ε), log(1 + ε)), takes one step of length 1 along the normalised gradient of KL + ½ contour distance
between the predictions for the image and for the image times the field, and is clamped to that range. At
every point the splines are non-negative and sum to 1, so the field stays in 1 ± ε.

The search normalises by the running statistics, as in evaluation mode, also for the clean prediction that it
compares with. It sees the image as the encoder does: scaled to [0, 1] per slice. The hard pass adds the same
distance to its terms, now from the detached clean prediction by the batch's statistics. BatchNorm is frozen
in that pass, as when the method was used on these networks for cardiac MR: running statistics are left alone,
weights and biases get no gradient.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.rivals import AdvBiasSettings
from coopseg.networks.cooperative import StepNetworks
from coopseg.networks.norm import norm_mode
from coopseg.rivals.adv_noise import clean_prediction, normalised
from coopseg.rivals.regions import control_points, spline_surface
from coopseg.training.losses import Ledger, contour_distance, divergence, rescale_slices
from coopseg.training.passes import Further, Passes, fast_logits
from coopseg.training.rival import Batch, Example, ImageRival, like


class AdvBias(ImageRival):
    """Trains on images under an adversarial bias field, as the module's docstring describes."""

    name = "adv_bias"
    norm = "frozen"
    settings: AdvBiasSettings

    @property
    def limits(self) -> tuple[float, float]:
        """Returns the least and greatest control point."""
        return math.log(1 - self.settings.epsilon), math.log(1 + self.settings.epsilon)

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Tensor:
        """Draws the control points that the search starts from, (B, 1, n, n): one field for all channels."""
        points = control_points(self.settings.spacing)
        start = torch.empty(len(image), 1, points, points).uniform_(*self.limits, generator=generator)
        return like(start, image)

    def apply(self, batch: Batch, drawn: Tensor, networks: StepNetworks) -> Example:
        """Returns the image under the field that the search found, not scaled yet."""
        image = batch.truth.image
        found = self.search(image, drawn, networks)
        return Example(image * bias_field(found, image.shape[2:], self.settings.spacing), batch.truth)

    def add(self, passes: Passes, batch: Batch, drawn: Tensor, ledger: Ledger) -> None:
        """Runs the hard pass, with the distance from the clean prediction as a further term."""
        example = self.apply(batch, drawn, passes.networks)
        clean = clean_prediction(passes.networks, batch.truth.image)
        apart = Further("consistency", self.settings.consistency, lambda p: self.distance(clean, p))
        self.hard_pass(passes, batch, rescale_slices(example.inputs), ledger, further=[apart])

    def search(self, image: Tensor, start: Tensor, networks: StepNetworks) -> Tensor:
        """Returns `start` moved so as to raise the distance between the predictions, detached."""
        points, spacing = start, self.settings.spacing
        with norm_mode(*networks.children(), record=False, learn=True, evaluate=True):
            clean = clean_prediction(networks, image)
            for _ in range(self.settings.steps):
                points = points.detach().requires_grad_()
                inputs = rescale_slices(image * bias_field(points, image.shape[2:], spacing))
                (gradient,) = torch.autograd.grad(self.distance(clean, fast_logits(networks, inputs)), points)
                points = (points + self.settings.length * normalised(gradient)).clamp(*self.limits)
        return points.detach()

    def distance(self, clean: Tensor, logits: Tensor) -> Tensor:
        """Returns KL(p ‖ p̃) + ½ contour distance of logits (B, classes, H, W), a scalar."""
        return divergence(clean, logits) + self.settings.contour * contour_distance(clean, logits)


def bias_field(points: Tensor, size: tuple[int, ...], spacing: float) -> Tensor:
    """Returns the factor of every pixel, (B, 1, H, W), for control points (B, 1, n, n); H and W are even."""
    coarse = spline_surface(points, (size[0] // 2, size[1] // 2), spacing)
    return F.interpolate(coarse.exp(), size=size, mode="bilinear")
