"""A volume to put artefacts on, and the way to `drawn_artefacts`, which the tests of artefacts share."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_artefacts import ring


@pytest.fixture(scope="session")
def volume() -> np.ndarray:
    return ring()
