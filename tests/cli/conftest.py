"""A model trained by the program."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY = (
    "--preset=cpu", "--method=cooperative", "--device=cpu", "--set=network.width=2",
    "--set=cases.size=[32,32]", "--set=cases.spacing=6", "--set=training.steps=2",
    "--set=training.validations=1",
)  # fmt: skip


@pytest.fixture(scope="session")
def trained(
    coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run folder on phantom["acdc"], split at random."""
    out = tmp_path_factory.mktemp("trained") / "run"
    result = coopseg("train", "--data", phantom["acdc"], "--out", out, *TINY)
    assert result.exit_code == 0, result.stderr
    assert f"next: coopseg predict --model {out}" in result.stdout
    last = r"last validation Dice: FTN 0\.\d{3} \(.*\); FTN\+STN 0\.\d{3} \(.*\)"
    best = r"best validation Dice: FTN 0\.\d{3} at step 2; FTN\+STN 0\.\d{3} at step 2"
    assert re.search(f"^{last}\n{best}$", result.stdout, re.MULTILINE)
    assert "step 2 of 2: validation Dice FTN 0." in result.stderr
    assert "FTN+STN 0." in result.stderr
    assert "method cooperative: 2 steps on" in result.stderr
    assert "hard_refined" in result.stderr
    return out
