"""Each sign is 0 where all agree, grows with what it speaks of, and is left out where it cannot be read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coopseg.quality.opinions import Opinions
from coopseg.quality.signs import SIGNS, read_signs

NAMES = ("background", "RV", "LV")
LABELS = np.zeros((2, 10, 10), np.uint8)
LABELS[:, 1:4, 1:4], LABELS[:, 6:9, 6:9] = 1, 2


def sure(labels: np.ndarray) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[labels].transpose(3, 0, 1, 2)


def opinions(stn: np.ndarray | None = LABELS, masked: tuple[np.ndarray, ...] = (LABELS,)) -> Opinions:
    heads: Mapping[str, np.ndarray] = {"FTN": sure(LABELS), **({} if stn is None else {"FTN+STN": sure(stn)})}
    return Opinions(heads, masked, np.zeros(4), (10.0, 1.0, 1.0))


def test_nothing_speaks_against_it() -> None:
    found = read_signs(opinions(), "FTN", NAMES)
    assert tuple(found) == tuple(SIGNS)
    assert all(values.tolist() == [0, 0] for values in found.values())


def test_each_speaks_of_its_own() -> None:
    other = LABELS.copy()
    other[:, 6:9, 6:9] = 0
    for given, name in (({"stn": other}, "second opinion"), ({"masked": (other,)}, "masked codes")):
        found = read_signs(opinions(**given), "FTN", NAMES)
        assert {key for key, values in found.items() if values.any()} == {name}
        assert found[name].tolist() == [0, 1]
    broken = LABELS.copy()
    broken[0, 9, 0] = 2
    found = read_signs(opinions(stn=broken), "FTN+STN", NAMES)
    assert found["loose pieces"][1] == 1 / 19


def test_what_cannot_be_read_is_left_out() -> None:
    assert set(read_signs(opinions(stn=None, masked=()), "FTN", NAMES)) == {"own doubt", "loose pieces"}
