"""Implements location-scale augmentation: random monotone intensity curves for each region (Su et al. 2023).

If the values of a region lie between a and b, a cubic Bézier curve from (a, a) to (b, b) maps them, or from
(a, b) to (b, a) if the curve falls. Its two control points are uniform in [a, b]², which makes it always
monotone. The result is multiplied by a scale around 1, and a location is added. The location is limited so
that without the scale at most a fifth of the region would leave [0, 1] on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
        """Keep the draws for the first `regions` regions."""
        return Curves(**{name: value[:, :regions] for name, value in vars(self).items()})


def sample_curves(like: Tensor, falling: Sequence[float], generator: torch.Generator | None) -> Curves:
    """Draw curves for as many images as `like` has. falling: the probability that a region's curve falls."""
    shape = len(like), len(falling)
    falls = torch.rand(shape, generator=generator) < torch.tensor(falling)
    scale = 1 + (SCALE * torch.randn(shape, generator=generator)).clamp_(-SCALE_LIMIT, SCALE_LIMIT)
    location = LOCATION * torch.randn(shape, generator=generator)
    points = torch.rand(*shape, 2, 2, generator=generator)

    def there(drawn: Tensor) -> Tensor:
        return drawn.to(like.device, like.dtype, non_blocking=True)

    return Curves(there(points), falls.to(like.device, non_blocking=True), there(scale), there(location))


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
