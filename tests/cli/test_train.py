"""What `coopseg train` says at its end leads on with the labels that it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

import coopseg
from coopseg.cli.train import _report

TINY = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}


@pytest.mark.parametrize("labels", [None, "RV=1,MYO=2,left ventricle=3"])
def test_hints_carry_the_labels(
    phantom: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: str | None
) -> None:
    run = tmp_path / "run"
    coopseg.train(phantom["acdc"], run, preset="quick", labels=labels, settings=TINY, device="cpu")
    _report(run)
    hint = capsys.readouterr().out.splitlines()[-1]
    assert hint.startswith(f"  or: coopseg evaluate --model {run} ")
    assert hint.endswith(" --labels 'RV=1,MYO=2,left ventricle=3'") == (labels is not None)
