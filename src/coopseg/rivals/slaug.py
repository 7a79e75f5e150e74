"""Implements SLAug: saliency-balancing location-scale augmentation (Su et al., AAAI 2023, arXiv 2211.14805).

SLAug makes two copies of the batch. In the global copy one random monotone curve maps every image. In the
local copy every class region, background included, has its own curve, and pixels up to 0.01 stay as they are.
The background's curve always falls, so that bright and dark change places; that of any other class falls with
probability ½. A first pass trains on the global copy, and the gradient of its loss at its input says where
that copy is salient. A second pass trains on s · global + (1 - s) · local, where s is the saliency. Both
passes add soft Dice to CE. In the first part of a training only the first pass runs. This project differs:

- what enters the encoder is scaled to [0, 1] per slice, as test images are;
- the loss has ½ MSE(x̃', x), as every pass has. It changes the saliency little: on the phantom, maps with and
  without it had a correlation of 0.97 and more;
- the warm-up is a share of the training. Their code has 1,500 steps, of some 20,000 on cardiac MR, but the
  configurations that come with it switch it off.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.rivals import SlaugSettings
from coopseg.errors import CoopsegError
from coopseg.rivals.location_scale import Curves, relocate, sample_curves
from coopseg.training.ledger import Ledger
from coopseg.training.losses import rescale_slices
from coopseg.training.passes import Passes, leaf
from coopseg.training.rival import Batch, Rival

CLASSES = 32  # curves are drawn for this many, since the number of classes is not known there
DARK = 0.01  # pixels up to this value keep it in the local copy
FALLS = 0.5  # probability that the curve of a foreground class falls


@dataclass(frozen=True, eq=False)
class Copies:
    """Holds the draws for both copies of a batch."""

    whole: Curves  # one region
    classes: Curves  # CLASSES regions


class Slaug(Rival):
    """Trains on the two copies of SLAug, as the module's docstring describes."""

    name = "slaug"
    norm = "shared"

    def __init__(self, settings: SlaugSettings) -> None:
        self.settings = settings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Copies:
        """Draws the curves of both copies."""
        whole = sample_curves(image, (0.0,), generator)
        return Copies(whole, sample_curves(image, (1.0, *[FALLS] * (CLASSES - 1)), generator))

    def add(self, passes: Passes, batch: Batch, drawn: Copies, ledger: Ledger) -> None:
        """Train on the global copy and, once the warm-up is over, on the fused one.

        Raises CoopsegError for more classes than curves were drawn for.
        """
        image, label, classes = batch.truth.image, batch.truth.label, passes.networks.classes
        if classes > CLASSES:
            raise CoopsegError(f"slaug draws curves for {CLASSES} classes, found {classes}; merge some")
        everywhere = relocate(image, torch.zeros_like(label), drawn.whole)
        inputs = leaf(rescale_slices(everywhere))
        self._pass(inputs, passes, batch, ledger, "slaug_")
        if batch.progress < self.settings.warmup:
            return
        assert inputs.grad is not None  # the pass has set it
        local = by_class(image, label, drawn.classes.first(classes))
        fused = torch.lerp(local, everywhere, saliency(inputs.grad, self.settings.grid))
        self._pass(rescale_slices(fused), passes, batch, ledger, "slaug_fused_")

    def _pass(self, inputs: Tensor, passes: Passes, batch: Batch, ledger: Ledger, prefix: str) -> None:
        passes.ftn(
            inputs,
            batch.truth,
            ledger,
            joint=batch.joint,
            prefix=prefix,
            scale=passes.settings.losses.hard,
            dice=self.settings.dice,
        )


def by_class(image: Tensor, label: Tensor, curves: Curves) -> Tensor:
    """Make the local copy of images (B, C, H, W): map each class by its own curve, keep dark pixels."""
    return torch.where(image <= DARK, image, relocate(image, label, curves))


def saliency(gradient: Tensor, grid: int) -> Tensor:
    """Compute where the loss depends on its input: (B, 1, H, W) in [0, 1] from the gradient (B, C, H, W).

    The root mean square over channels is averaged over the cells of a grid x grid raster, spread out again by
    quadratic B-splines around the cells' middles, and scaled to [0, 1] per image.
    """
    strength = gradient.square().mean(1, keepdim=True).sqrt()
    cells = F.adaptive_avg_pool2d(strength, grid)
    rows, columns = (spread(side, grid).to(cells) for side in gradient.shape[2:])
    # bf16 would turn smooth changes into steps
    with torch.autocast(gradient.device.type, enabled=False):
        smooth = rows @ cells @ columns.mT
    least = torch.finfo(smooth.dtype).tiny  # so small that rescale_slices alone would call the map constant
    return rescale_slices(smooth / smooth.amax((1, 2, 3), keepdim=True).clamp_min(least))


def spread(side: int, grid: int) -> Tensor:
    """Sample the quadratic B-spline of each of `grid` cells at the middles of `side` pixels: (side, grid)."""
    pixels = (torch.arange(side, dtype=torch.float64) + 0.5) * grid / side
    distance = (pixels[:, None] - torch.arange(grid) - 0.5).abs()
    outer = (1.5 - distance).clamp_min(0).square() / 2
    return torch.where(distance < 0.5, 0.75 - distance.square(), outer)
