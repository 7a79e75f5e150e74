"""Networks whose norms take statistics of the scan itself into account (Schneider et al. 2020, NeurIPS)."""

from __future__ import annotations

import copy

from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norms


def with_scan_statistics(networks: Networks, k: float) -> Networks:
    """`networks` in evaluation mode, every norm with `scan_statistics` k; they expect whole volumes.

    Modules are new; weights and running statistics are those of `networks`, so that they follow a training.
    `networks` stay as they are. Several threads may use the result at once: k is the same for all volumes,
    and each layer counts the slices that it is given.
    """
    shared = {id(tensor): tensor for tensor in (*networks.parameters(), *networks.buffers())}
    found = copy.deepcopy(networks, shared).eval()
    for norm in norms(found):
        norm.scan_statistics = k
    return found
