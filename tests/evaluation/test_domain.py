"""What data sets are to a model, by the names of their patients."""

from __future__ import annotations

from pathlib import Path

from coopseg.cases.splits import Split
from coopseg.evaluation.domain import find_domain
from coopseg.scans.types import Dataset, Labels, ScanRef

NAMES = ("background", "RV", "MYO", "LV")


def test_domains() -> None:
    def dataset(*refs: tuple[str, int]) -> Dataset:
        items = tuple(ScanRef(patient, Path("x"), copy=copy) for patient, copy in refs)
        return Dataset("D", Path("x"), "folder", Labels(NAMES, (0, 1, 2, 3)), items)

    trained = Split("s", ("a",), ("b",), ("c",))
    assert find_domain(dataset(("c", 0), ("z", 0)), trained) == "intra"
    assert find_domain(dataset(("c", 1), ("c", 2)), trained) == "corrupted"
    assert find_domain(dataset(("z", 1)), None) == "corrupted"
    assert find_domain(dataset(("z", 0)), trained) == "other"
    assert find_domain(dataset(("c", 0)), None) == "other"  # nobody knows
