"""The image encoder's stem by statistics of the scan itself (after Schneider et al. 2020, NeurIPS).

Only the stem: what a scanner does to intensities (noise, contrast, a bias field) shows in the statistics of
the first layers, while those of deeper layers also tell how much of the heart a scan shows, which is not to
be normalised away. See docs/research.md for what all layers lose.
"""

from __future__ import annotations

import copy

from coopseg.networks.cooperative import Networks
from coopseg.networks.encoder import Stem
from coopseg.networks.norm import norms


def scan_stem(networks: Networks, k: float) -> Stem:
    """The stem of `networks` in evaluation mode, norms with `scan_statistics` k; it expects whole volumes.

    Modules are new; weights and running statistics are those of `networks`, so that they follow a training.
    `networks` stay as they are. Several threads may use the result at once: k is the same for all volumes,
    and each layer counts the slices that it is given.
    """
    stem = networks.image_encoder.stem
    shared = {id(tensor): tensor for tensor in (*stem.parameters(), *stem.buffers())}
    found = copy.deepcopy(stem, shared).eval()
    for norm in norms(found):
        norm.scan_statistics = k
    return found
