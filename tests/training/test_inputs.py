"""Validation on whole patients."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.types import Labels, ScanRef
from coopseg.training.inputs import ValidationSet, validate

TRUE = np.array([[[1, 1, 2, 2]]], np.uint8)
HALF = np.array([[[1, 0, 2, 2]]], np.uint8)  # Dice 2/3 and 1
WRONG = np.zeros_like(TRUE)


def test_validation_needs_labels() -> None:
    case: Any = SimpleNamespace(ref=ScanRef("p1", Path("p1.nii.gz")))
    with pytest.raises(CoopsegError, match=r"p1\.nii\.gz: validation needs a label"):
        ValidationSet.from_cases([case], Labels(("background", "LV"), (0, 1)), ("background", "LV"))


def test_two_volumes_of_one_patient_count_as_one() -> None:
    maps = {"a1": TRUE, "a2": WRONG, "b1": HALF}
    cases: Any = tuple(SimpleNamespace(ref=SimpleNamespace(patient=name[0], id=name)) for name in maps)
    data = ValidationSet(cases, (TRUE,) * 3, ("background", "LV", "MYO"))
    predictor: Any = SimpleNamespace(labels=lambda case: {"FTN": maps[case.ref.id], "FTN+STN": TRUE})
    scores = validate(predictor, data)
    assert scores["FTN"]["LV"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert scores["FTN"]["MYO"] == pytest.approx((0.5 + 1) / 2)
    assert scores["FTN"]["mean"] == pytest.approx((scores["FTN"]["LV"] + scores["FTN"]["MYO"]) / 2)
    assert scores["FTN+STN"]["mean"] == 1
