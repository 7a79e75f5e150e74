"""Damages label maps for a denoising autoencoder to learn from (Larrazabal et al. 2020, section III-B).

In this order, each on some maps:
- a structure is eroded, dilated, opened or closed;
- ellipses are drawn: holes of background at the border of a structure, blobs of any structure anywhere;
- pixels near borders take the label of another pixel nearby.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from coopseg.config.rivals import PostDaeSettings

OPERATIONS = ((-1, 0), (1, 0), (-1, 1), (1, -1))  # erosion, dilation, opening, closing


@dataclass(frozen=True, eq=False)
class Damage:
    """Holds the draws for B label maps (H, W). Lengths are in pixels, pairs in the order (rows, columns)."""

    structure: Tensor  # (B,): the class that is reshaped
    growth: Tensor  # (B, 2): by how much it grows, in two steps; negative where it shrinks
    present: Tensor  # (B, N) bool: which of N ellipses are drawn
    value: Tensor  # (B, N): their class; 0 for a hole
    rank: Tensor  # (B, N) in [0, 1): which of the pixels at a border, in order, is the centre of a hole
    centre: Tensor  # (B, N, 2): centre of a blob
    radii: Tensor  # (B, N, 2): half axes
    angle: Tensor  # (B, N): radians from the rows' axis to the first half axis
    swapped: Tensor  # (B, H, W) bool: pixels that take another's label if they are near a border
    offset: Tensor  # (B, 2, H, W): offset to that other pixel
    reach: int  # the largest offset, and the largest distance that is near a border
    furthest: int  # the largest growth, known on the host so that nothing waits for the device

    def to(self, device: torch.device | str) -> Damage:
        """Returns the same draws on another device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: Any = {name: each.to(device, non_blocking=True) for name, each in tensors.items()}
        return replace(self, **moved)


def sample_damage(
    batch: int,
    size: tuple[int, int],
    classes: int,
    settings: PostDaeSettings,
    generator: torch.Generator | None = None,
) -> Damage:
    """Draw the damage of `batch` label maps of `size` (rows, columns) and classes 0 to classes - 1."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, (batch, *shape), generator=generator)

    def chosen() -> Tensor:
        return uniform(0, 1, 1) < settings.p

    shapes, reach = settings.shapes, settings.swap_reach
    operation = torch.tensor(OPERATIONS)[integers(0, len(OPERATIONS) - 1)]
    hole = uniform(0, 1, shapes) < 0.5
    share = uniform(*settings.swaps, 1) * chosen()
    structure = integers(1, classes - 1)
    growth = operation * integers(1, settings.reshape, 1) * chosen()
    return Damage(
        structure=structure,
        growth=growth,
        present=(torch.arange(shapes) < integers(1, shapes, 1)) & chosen(),
        value=torch.where(hole, 0, integers(1, classes - 1, shapes)),
        rank=uniform(0, 1, shapes),
        centre=uniform(0, 1, shapes, 2) * (torch.tensor(size) - 1),
        radii=uniform(*settings.radius, shapes, 2),
        angle=uniform(0, torch.pi, shapes),
        swapped=uniform(0, 1, *size) < share[..., None],
        offset=integers(-reach, reach, 2, *size),
        reach=reach,
        furthest=int(growth.abs().max()),
    )


def damage_labels(labels: Tensor, damage: Damage) -> Tensor:
    """Returns damaged copies of label maps (B, H, W) int64; `damage` must be on their device."""
    labels = reshape_structures(labels, damage)
    labels = draw_ellipses(labels, damage)
    return swap_pixels(labels, damage)


def reshape_structures(labels: Tensor, damage: Damage) -> Tensor:
    """Grows one class of each map over others, or shrinks it and leaves background behind."""
    structure = damage.structure.view(-1, 1, 1)
    before = after = labels == structure
    for amount in damage.growth.T:
        after = _resize(after, amount, damage.furthest)
    return torch.where(after, structure, labels.masked_fill(before, 0))


def _resize(mask: Tensor, amount: Tensor, furthest: int) -> Tensor:
    """Grows masks (B, H, W) by `amount` (B,) pixels in a square neighbourhood; negative: shrinks them.

    No amount is larger than `furthest`. Pixels beyond the image count as equal to those at its edge.
    """
    shrinks = (amount < 0).view(-1, 1, 1)
    mask = mask ^ shrinks
    for done in range(furthest):
        mask = torch.where((amount.abs() > done).view(-1, 1, 1), grow(mask), mask)
    return mask ^ shrinks


def grow(mask: Tensor) -> Tensor:
    """Adds the eight neighbours of every marked pixel to masks (B, H, W)."""
    for axis in (1, 2):
        rest = mask.shape[axis] - 1
        grown = mask.clone()  # shifted copies: max_pool2d takes 20 times as long
        grown.narrow(axis, 1, rest).logical_or_(mask.narrow(axis, 0, rest))
        grown.narrow(axis, 0, rest).logical_or_(mask.narrow(axis, 1, rest))
        mask = grown
    return mask


def draw_ellipses(labels: Tensor, damage: Damage) -> Tensor:
    """Draws holes and blobs, one over the other; a map without a border gets no hole."""
    rows, columns = (torch.arange(length, device=labels.device) for length in labels.shape[1:])
    border, found = _border_pixels(near_border(labels, 0), damage.rank)
    hole = damage.value == 0
    centre = torch.where(hole[..., None], border, damage.centre)
    present = damage.present & (found | ~hole)
    cos, sin = damage.angle.cos(), damage.angle.sin()
    for n in range(present.shape[1]):

        def of(draws: Tensor, n: int = n) -> Tensor:
            return draws[:, n].view(-1, 1, 1)

        y, x = rows[:, None] - of(centre[..., 0]), columns - of(centre[..., 1])
        along = (of(cos) * y + of(sin) * x) / of(damage.radii[..., 0])
        across = (of(cos) * x - of(sin) * y) / of(damage.radii[..., 1])
        inside = (along.square() + across.square() <= 1) & of(present)
        labels = torch.where(inside, of(damage.value), labels)
    return labels


def near_border(labels: Tensor, reach: int) -> Tensor:
    """Marks pixels, (B, H, W) bool, within `reach` of one with a neighbour (of four) of another class."""
    border = torch.zeros_like(labels, dtype=torch.bool)
    for axis in (1, 2):
        rest = labels.shape[axis] - 1
        differ = labels.narrow(axis, 0, rest) != labels.narrow(axis, 1, rest)
        border.narrow(axis, 0, rest).logical_or_(differ)
        border.narrow(axis, 1, rest).logical_or_(differ)
    for _ in range(reach):
        border = grow(border)
    return border


def _border_pixels(border: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Returns pixels (B, N, 2) by rank among those marked in `border` (B, H, W), and whether any exist."""
    counts = border.flatten(1).cumsum(1)
    index = torch.searchsorted(counts, (rank * counts[:, -1:]).long() + 1)
    found = (counts[:, -1:] > 0).expand_as(index)
    index = index.clamp(max=counts.shape[1] - 1)
    return torch.stack([index // border.shape[2], index % border.shape[2]], -1).float(), found


def swap_pixels(labels: Tensor, damage: Damage) -> Tensor:
    """Gives chosen pixels near a border the label of another pixel, whose place is clamped to the image."""
    batch, height, width = labels.shape
    y, x = (
        (torch.arange(length, device=labels.device).view(shape) + damage.offset[:, axis]).clamp(0, length - 1)
        for axis, (length, shape) in enumerate(((height, (-1, 1)), (width, (1, -1))))
    )
    other = labels.flatten(1).gather(1, (y * width + x).flatten(1)).view(batch, height, width)
    near = near_border(labels, damage.reach)
    return torch.where(damage.swapped & near, other, labels)
