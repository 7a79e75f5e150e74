"""The kernels are optional: without a compiler, or switched off, PyTorch does the work and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coopseg.networks.native import build


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(build.SWITCH, raising=False)
    build.kernels.cache_clear()
    yield
    build.kernels.cache_clear()


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, "0")
    assert not build.kernels()
    assert str(build.kernels()) == "torch (COOPSEG_NATIVE=0)"


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert str(build.kernels()) == "torch (no C++ compiler)"


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    assert str(build.kernels()) == f"torch ({failing} failed: CalledProcessError)"
