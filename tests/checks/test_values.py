"""Values of one label map."""

from __future__ import annotations

import pytest

from coopseg.checks.values import background_value, check_values
from coopseg.scans.types import Labels

HEART = Labels(("background", "LV", "RV"), (0, 1, 3))
UNNAMED = Labels(("background",), (0,))


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ({0, 1, 3}, HEART, []),
        ({1}, HEART, []),
        ({0}, HEART, [("label-empty", "every voxel is background (0)")]),
        ({5}, Labels(("background", "LV"), (5, 1)), [("label-empty", "every voxel is background (5)")]),
        ({0, 1, 2, 7}, HEART, [("label-unnamed", "no name for 2, 7 (known: 0 background, 1 LV, 3 RV)")]),
        ({0, 1, 2}, UNNAMED, []),
        ({0, -1, 2}, UNNAMED, [("label-unnamed", "no name for -1")]),
        (set(range(256)), UNNAMED, []),
        (set(range(300)), UNNAMED, [("label-values", "300 values, as of an image")]),
    ],
)
def test_values(values: set[int], labels: Labels, expected: list[tuple[str, str]]) -> None:
    assert [(fault.rule, fault.found) for fault in check_values(values, labels)] == expected


def test_the_background_need_not_be_0() -> None:
    assert background_value(Labels(("background", "LV"), (5, 1))) == 5
