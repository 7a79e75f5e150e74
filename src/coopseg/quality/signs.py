"""Collects the signs of trouble of a volume: numbers that are 0 where all is well and grow with doubt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from coopseg.quality.agreement import disagreement
from coopseg.quality.broken import loose_share
from coopseg.quality.certainty import expected_loss
from coopseg.quality.opinions import Opinions

FTN, STN = "FTN", "FTN+STN"
Sign = Callable[[Opinions, str, Sequence[str]], "np.ndarray | None"]


def _own_doubt(opinions: Opinions, head: str, names: Sequence[str]) -> np.ndarray | None:
    return expected_loss(opinions.probabilities[head], opinions.labels(head))


def _masked(opinions: Opinions, head: str, names: Sequence[str]) -> np.ndarray | None:
    return disagreement(opinions.labels(head), opinions.masked, len(names)) if opinions.masked else None


def _second_opinion(opinions: Opinions, head: str, names: Sequence[str]) -> np.ndarray | None:
    if STN not in opinions.probabilities:
        return None
    return disagreement(opinions.labels(FTN), [opinions.labels(STN)], len(names))


def _loose(opinions: Opinions, head: str, names: Sequence[str]) -> np.ndarray | None:
    return loose_share(opinions.labels(head), names, opinions.spacing)


# By name; each returns a value in [0, 1] for each structure, or None for networks that cannot tell it. What
# else was tried, and why it is not here, is in docs/research.md.
SIGNS: Mapping[str, Sign] = {
    "own doubt": _own_doubt,
    "masked codes": _masked,
    "second opinion": _second_opinion,
    "loose pieces": _loose,
}


def read_signs(opinions: Opinions, head: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the signs that can be read, each (classes - 1,) in [0, 1]: 0 if nothing speaks against it.

    head: whose label map is judged. names: of the classes, background first.

    - own doubt: 1 minus the Dice that the head itself expects, see `expected_loss`.
    - masked codes: 1 minus the Dice between it and the FTN's label maps from masked codes.
    - second opinion: 1 minus the Dice between FTN and FTN+STN.
    - loose pieces: see `loose_share`.
    """
    found = {name: sign(opinions, head, names) for name, sign in SIGNS.items()}
    return {name: values for name, values in found.items() if values is not None}
