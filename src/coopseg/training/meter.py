"""Losses kept on the device and read every so many steps: a step never waits for the host."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from coopseg.latent.choice import SCHEMES
from coopseg.training.step import StepResult


class Meter:
    """Collects step results; `read` gives their means and starts anew."""

    def __init__(self) -> None:
        self.losses: list[dict[str, Tensor]] = []
        self.rises: dict[str, Tensor] = {}
        self.batches: list[tuple[str, ...]] = []

    def add(self, result: StepResult, batch: tuple[str, ...]) -> None:
        """Keep a step's losses and the ids of its slices."""
        self.losses.append(result.losses)
        self.batches.append(batch)
        for code, sums in result.rises.items():
            self.rises[code] = self.rises[code] + sums if code in self.rises else sums

    def bad_batch(self) -> tuple[str, ...] | None:
        """Slice ids of the first step whose total loss is not finite."""
        totals = torch.stack([losses["total"] for losses in self.losses]).tolist()
        return next(
            (ids for total, ids in zip(totals, self.batches, strict=True) if not math.isfinite(total)), None
        )

    def read(self) -> dict[str, Any]:
        """Mean of each loss term, and "rise": by how much each scheme multiplied its decoder's loss."""
        names = list(self.losses[0])
        means = torch.stack([torch.stack([losses[name] for name in names]) for losses in self.losses]).mean(0)
        values: dict[str, Any] = dict(zip(names, means.tolist(), strict=True))
        rise = {
            f"{code}/{scheme}": hard / clean
            for code, sums in self.rises.items()
            for scheme, (clean, hard, count) in zip(SCHEMES, sums.tolist(), strict=True)
            if count and clean
        }
        self.__init__()  # type: ignore[misc]
        return values | ({"rise": rise} if rise else {})
