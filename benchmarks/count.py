"""Counts what a step costs without a clock: operators, floating-point operations, peak live bytes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Cost:
    """Holds a cost. operators: calls that PyTorch dispatched. flops: of convolutions, both ways, 2 a product.

    peak_bytes: the most that tensors made since held at once, storages counted once.
    """

    operators: int
    flops: int
    peak_bytes: int


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators = self.flops = self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.operators += 1
        found = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function.overloadpacket)
        self.flops += formula(*args, **(kwargs or {}), out_val=found) if formula else 0
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._meet(leaf)
        return found

    def _meet(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self.known:
            return
        self.known.add(storage._cdata)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._part, storage._cdata, storage.nbytes())

    def _part(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def count(function: Callable[[], Any]) -> Cost:
    """Counts the cost of one call."""
    with _Watch() as watch:
        function()
    return Cost(watch.operators, watch.flops, watch.peak)
