"""Collects the loss terms of a step by name, and their weighted total."""

from __future__ import annotations

from torch import Tensor


class Ledger:
    """Keeps what the log needs of every loss term."""

    def __init__(self) -> None:
        self.terms: dict[str, Tensor] = {}  # unweighted, detached
        self.weighted: list[Tensor] = []

    def add(self, name: str, term: Tensor, weight: float) -> Tensor:
        """Note a scalar term under `name`; returns it weighted, to be differentiated."""
        weighted = weight * term
        self.terms[name] = term.detach()
        self.weighted.append(weighted.detach())
        return weighted

    @property
    def losses(self) -> dict[str, Tensor]:
        """Returns every term, unweighted, and the weighted "total"."""
        return {**self.terms, "total": sum(self.weighted[1:], self.weighted[0])}
