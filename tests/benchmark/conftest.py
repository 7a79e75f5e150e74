"""Benchmark folders made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_bench import Bench, large_bench, read_table


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty benchmark folder to be filled."""
    return Bench(tmp_path / "bench")


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark folder with something of everything; read-only."""
    return large_bench(tmp_path_factory.mktemp("large") / "bench").folder


@pytest.fixture(scope="session")
def results(large: Path) -> dict[str, Any]:
    """The table of `large`; read-only."""
    return read_table(large)
