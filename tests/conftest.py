"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with acdc/ and mnms/, or skip: the scans' terms forbid shipping them."""
    folder = Path(os.environ.get("COOPSEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "acdc").is_dir():
        pytest.skip("real scans not found; set COOPSEG_DATA to a folder that holds acdc/ and mnms/")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden values."""
    return GOLDEN
