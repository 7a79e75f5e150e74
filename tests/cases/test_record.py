"""The record survives JSON and knows the geometry it was made from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from coopseg.cases.record import Record
from coopseg.scans.geometry import Orientation

RECORD = Record(
    shape=(30, 40, 5),
    orientation=Orientation((2, 1, 0), (True, False, True)),
    stored_spacing=(8.0, 1.5, 1.25),
    clip=(3.5, 811.0),
    steps=(0.8, 0.96),
    resampled=(50, 31),
    size=(32, 48),
    slice_range=((0.0, 1.0), (0.25, 0.5)),
)


def test_json_round_trip_is_exact() -> None:
    assert Record.from_dict(json.loads(json.dumps(RECORD.to_dict()))) == RECORD


def test_derived_geometry() -> None:
    assert RECORD.slices == 5
    assert RECORD.plane == (40, 30)
    np.testing.assert_allclose(RECORD.spacing, (8, 1.2, 1.2))


def test_is_frozen() -> None:
    with pytest.raises(AttributeError):
        RECORD.clip = None  # type: ignore[misc]
