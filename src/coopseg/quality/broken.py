"""Counts what no anatomy has: voxels that lie apart from the rest of their structure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coopseg.measures.pieces import THICK, loose_voxels
from coopseg.measures.stack import LV, MYO


def loose_share(labels: np.ndarray, names: Sequence[str], spacing: tuple[float, float, float]) -> np.ndarray:
    """Returns the share of each structure that lies apart from its largest piece, in [0, 1).

    labels: (slices, H, W) indices into `names`, background first. spacing: mm between slices, rows, columns.
    0 for a structure that is nowhere. For what a piece is see `coopseg.measures.pieces`.

    >>> loose_share(np.array([[[1, 1, 1, 0, 1]]]), ("background", "RV"), (8, 1, 1))
    array([0.25])
    """
    thick = len(labels) == 1 or spacing[0] >= THICK * max(spacing[1:])
    shares = []
    for index, name in enumerate(names[1:], start=1):
        own = labels == index
        through = labels == names.index(LV) if name == MYO and LV in names else None
        loose, _ = loose_voxels(own, thick=thick, through=through)
        shares.append(int(loose.sum()) / max(int(own.sum()), 1))
    return np.array(shares)
