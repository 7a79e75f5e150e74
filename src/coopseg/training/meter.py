"""Keeps losses on the device and reads them every so many steps, so that steps do not wait for them."""

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
        self.names: tuple[str, ...] = ()
        self.losses: list[Tensor] = []
        self.rises: dict[str, Tensor] = {}
        self.batches: list[tuple[str, ...]] = []

    def add(self, result: StepResult, batch: tuple[str, ...]) -> None:
        """Keep a step's losses and the ids of its slices."""
        self.names = tuple(result.losses)
        # a copy: the scalar that mse_loss returns keeps storage of the size of its input
        self.losses.append(torch.stack(tuple(result.losses.values())))
        self.batches.append(batch)
        for code, sums in result.rises.items():
            self.rises[code] = self.rises[code] + sums if code in self.rises else sums

    def __len__(self) -> int:
        return len(self.batches)

    def bad_batch(self) -> tuple[int, tuple[str, ...]] | None:
        """Returns the first step, counted from 0, with a total loss that is not finite, and its slice ids."""
        totals = torch.stack(self.losses)[:, self.names.index("total")].tolist()
        steps = zip(totals, enumerate(self.batches), strict=True)
        return next((batch for total, batch in steps if not math.isfinite(total)), None)

    def state_dict(self) -> dict[str, Any]:
        """Returns what has not been read yet, on the CPU, for saving."""
        rises = {code: sums.cpu() for code, sums in self.rises.items()}
        losses = [values.cpu() for values in self.losses]
        return {"names": self.names, "losses": losses, "rises": rises, "batches": list(self.batches)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restores what `state_dict` returned, on a device."""
        self.names, self.batches = state["names"], state["batches"]
        self.losses = [values.to(device) for values in state["losses"]]
        self.rises = {code: sums.to(device) for code, sums in state["rises"].items()}

    def read(self) -> dict[str, Any]:
        """Returns each loss term's mean and "rise": by how much each scheme multiplied its decoder's loss."""
        means = torch.stack(self.losses).mean(0)
        values: dict[str, Any] = dict(zip(self.names, means.tolist(), strict=True))
        rise = {
            f"{code}/{scheme}": hard / clean
            for code, sums in self.rises.items()
            for scheme, (clean, hard, count) in zip(SCHEMES, sums.tolist(), strict=True)
            if count and clean
        }
        self.__init__()  # type: ignore[misc]
        return values | ({"rise": rise} if rise else {})
