"""Averages gradients and running statistics over several processes, so that all ranks stay equal.

The step differentiates piece by piece. A DistributedDataParallel wrapper cannot follow that: it waits for one
backward over one graph. The networks hold 10 MB, so one averaged message per step costs little.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

Value = TypeVar("Value")


def _exchanged(networks: nn.Module) -> list[Tensor]:
    gradients = [p.grad for p in networks.parameters() if p.grad is not None]
    return [*gradients, *networks.buffers()]


@torch.no_grad()
def average_gradients(fabric: Fabric, networks: nn.Module) -> None:
    """Replace every gradient and running statistic by its mean over the processes."""
    if fabric.world_size == 1:
        return
    tensors = _exchanged(networks)
    flat = fabric.all_reduce(torch.cat([t.flatten() for t in tensors]), reduce_op="mean")
    assert isinstance(flat, Tensor)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def share_weights(fabric: Fabric, networks: nn.Module) -> None:
    """Start every process from the weights of the first."""
    for tensor in networks.state_dict().values():
        tensor.copy_(fabric.broadcast(tensor, src=0))


def gather(fabric: Fabric, value: Value) -> list[Value]:
    """Returns every process's `value`, in the order of ranks; for small things that can be pickled."""
    if fabric.world_size == 1:
        return [value]
    values = [value] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values
