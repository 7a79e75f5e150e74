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

The curves: if the values of a region lie between a and b, a cubic Bézier curve from (a, a) to (b, b) maps
them, or from (a, b) to (b, a) if the curve falls. Its two control points are uniform in [a, b]², which makes
it always monotone. The result is multiplied by a scale around 1, and a location is added. The location is
limited so that without the scale at most a fifth of the region would leave [0, 1] on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.rivals import SlaugSettings
from coopseg.errors import CoopsegError
from coopseg.training.losses import Ledger, rescale_slices
from coopseg.training.passes import Passes, leaf
from coopseg.training.rival import Batch, Rival, like

CLASSES = 32  # curves are drawn for this many, since the number of classes is not known there
DARK = 0.01  # pixels up to this value keep it in the local copy
FALLS = 0.5  # probability that the curve of a foreground class falls
SCALE, SCALE_LIMIT = 0.1, 0.1  # standard deviation around 1, and greatest distance from 1
LOCATION = 0.5  # standard deviation around 0
BEYOND = 0.2  # share of a region that the location may move out of [0, 1]
VALUES = 512  # points at which a curve is computed; between them it is taken as straight
HALVINGS = 24  # bisection steps for a curve's parameter: the precision of float32


@dataclass(frozen=True, eq=False)
class Curves:
    """Holds the draws for R regions of each of B images."""

    points: Tensor  # (B, R, 2, 2): x and y of both control points, in the unit square
    falling: Tensor  # (B, R): bool, whether bright and dark change places
    scale: Tensor  # (B, R)
    location: Tensor  # (B, R), before it is limited

    def first(self, regions: int) -> Curves:
        """Keeps the draws for the first `regions` regions."""
        return Curves(**{name: value[:, :regions] for name, value in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Copies:
    """Holds the draws for both copies of a batch."""

    whole: Curves  # one region
    classes: Curves  # CLASSES regions

    def everywhere(self, image: Tensor) -> Tensor:
        """Makes the global copy of images (B, C, H, W): each image has one curve."""
        return relocate(image, torch.zeros_like(image[:, 0], dtype=torch.long), self.whole)

    def of(self, classes: int) -> Curves:
        """Returns the curves of the first classes. Raises CoopsegError if fewer were drawn."""
        if classes > CLASSES:
            raise CoopsegError(f"slaug draws curves for {CLASSES} classes, found {classes}; merge some")
        return self.classes.first(classes)


class Slaug(Rival):
    """Trains on the two copies of SLAug, as the module's docstring describes."""

    name = "slaug"
    norm = "shared"
    settings: SlaugSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Copies:
        """Draws the curves of both copies."""
        whole = sample_curves(image, (0.0,), generator)
        return Copies(whole, sample_curves(image, (1.0, *[FALLS] * (CLASSES - 1)), generator))

    def add(self, passes: Passes, batch: Batch, drawn: Copies, ledger: Ledger) -> None:
        """Trains on the global copy and, once the warm-up is over, on the fused one.

        Raises CoopsegError for more classes than curves were drawn for.
        """
        image, curves = batch.truth.image, drawn.of(passes.networks.classes)
        everywhere = drawn.everywhere(image)
        inputs = leaf(rescale_slices(everywhere))
        self.hard_pass(passes, batch, inputs, ledger, dice=self.settings.dice)
        if batch.progress < self.settings.warmup:
            return
        assert inputs.grad is not None  # the pass has set it
        local = by_class(image, batch.truth.label, curves)
        fused = torch.lerp(local, everywhere, saliency(inputs.grad, self.settings.grid))
        fused = rescale_slices(fused)
        self.hard_pass(passes, batch, fused, ledger, suffix="fused_", dice=self.settings.dice)


def by_class(image: Tensor, label: Tensor, curves: Curves) -> Tensor:
    """Makes the local copy of images (B, C, H, W): maps each class by its own curve, keeps dark pixels."""
    return torch.where(image <= DARK, image, relocate(image, label, curves))


def copy_by_class(image: Tensor, label: Tensor, drawn: Copies) -> Tensor:
    """Makes the local copy for the classes that `label` (B, H, W) holds. Raises CoopsegError for too many."""
    return by_class(image, label, drawn.of(int(label.max()) + 1))


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


def sample_curves(image: Tensor, falling: Sequence[float], generator: torch.Generator | None) -> Curves:
    """Draws curves for as many images as `image` has. falling: probability for each region."""
    shape = len(image), len(falling)
    falls = torch.rand(shape, generator=generator) < torch.tensor(falling)
    scale = 1 + (SCALE * torch.randn(shape, generator=generator)).clamp_(-SCALE_LIMIT, SCALE_LIMIT)
    location = LOCATION * torch.randn(shape, generator=generator)
    points = torch.rand(*shape, 2, 2, generator=generator)

    falls = falls.to(image.device, non_blocking=True)
    return Curves(like(points, image), falls, like(scale, image), like(location, image))


def relocate(image: Tensor, region: Tensor, curves: Curves) -> Tensor:
    """Map images (B, C, H, W) in [0, 1] to [0, 1], each region by its curve. region: (B, H, W), below R."""
    place = region[:, None].expand_as(image).flatten(1)
    curved = bend(image.flatten(1), place, curves)
    low, high = quantiles(curved, place, curves.scale.shape[1], (BEYOND, 1 - BEYOND))
    location = curves.location.maximum(-low).minimum(1 - high)
    moved = curved * curves.scale.gather(1, place) + location.gather(1, place)
    return moved.clamp_(0, 1).view_as(image)


def bend(values: Tensor, place: Tensor, curves: Curves) -> Tensor:
    """Map each of the values (B, N) by the curve of its region `place` (B, N)."""
    size = len(values), curves.scale.shape[1]
    low = values.new_full(size, torch.inf).scatter_reduce_(1, place, values, "amin")
    high = values.new_full(size, -torch.inf).scatter_reduce_(1, place, values, "amax")
    start, span = low.gather(1, place), (high - low).gather(1, place)
    position = (values - start) / span.clamp_min(torch.finfo(values.dtype).tiny) * (VALUES - 1)
    # a value that is not finite needs an index too; the training loop reports its slice
    below = position.nan_to_num().floor().clamp_(0, VALUES - 2)
    table, index = curve_table(curves).flatten(1), place * VALUES + below.long()
    bent = torch.lerp(table.gather(1, index), table.gather(1, index + 1), position - below)
    return start + span * bent


def curve_table(curves: Curves) -> Tensor:
    """Compute the curves of the unit square at even steps from 0 to 1: (B, R, VALUES)."""
    x, y = (curves.points[..., axis].unsqueeze(-2) for axis in (0, 1))
    wanted = torch.linspace(0, 1, VALUES, device=x.device, dtype=x.dtype)
    t = torch.zeros_like(wanted).expand(*x.shape[:2], -1)
    for halving in range(1, HALVINGS + 1):
        further = t + 0.5**halving
        t = torch.where(_bezier(x, further) <= wanted, further, t)
    t[..., -1] = 1
    bent = _bezier(y, t)
    return torch.where(curves.falling[..., None], 1 - bent, bent)


def quantiles(values: Tensor, place: Tensor, regions: int, shares: Sequence[float]) -> list[Tensor]:
    """Find each share's quantile in each region, (B, R), of values (B, N) in [0, 1], as numpy does.

    The result for a region without values is meaningless.
    """
    apart = 2 * torch.arange(regions, device=values.device)
    ordered = (values + 2 * place).sort(1).values  # one region after the other
    count = (place[..., None] == torch.arange(regions, device=place.device)).sum(1)
    start, last = count.cumsum(1) - count, (count - 1).clamp_min(0)

    def at(index: Tensor) -> Tensor:
        return ordered.gather(1, (start + index).clamp_max(values.shape[1] - 1)) - apart

    found = []
    for share in shares:
        position = share * last.to(values.dtype)
        below = position.long()
        found.append(torch.lerp(at(below), at(torch.minimum(below + 1, last)), position - below))
    return found


def _bezier(controls: Tensor, t: Tensor) -> Tensor:
    """Evaluate one coordinate of cubic curves from 0 to 1 at t (..., T). controls: (..., 1, 2)."""
    first, second = controls[..., 0], controls[..., 1]
    return 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3
