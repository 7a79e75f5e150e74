"""What `coopseg train` says at its end leads on with the labels that it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

import coopseg
from coopseg.cli.train import _report, stn_behind

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


def test_a_second_opinion_that_is_worse_is_said() -> None:
    said = stn_behind({"FTN": {"mean": 0.475}, "FTN+STN": {"mean": 0.292}})
    assert said is not None
    assert "0.292, the FTN alone 0.475" in said
    assert "--refine 0" in said
    assert stn_behind({"FTN": {"mean": 0.82}, "FTN+STN": {"mean": 0.81}}) is None
    assert stn_behind({"FTN": {"mean": 0.82}}) is None
