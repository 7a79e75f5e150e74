"""What `coopseg train` says at its end, and where it is stopped, leads on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from coopseg import train
from coopseg.cli.main import _terminate
from coopseg.cli.train import _report
from coopseg.inference.model import load_model
from coopseg.results.remarks import stn_behind, validation_of

TINY = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}


@pytest.mark.parametrize("labels", [None, "RV=1,MYO=2,left ventricle=3"])
def test_hints_carry_the_labels(
    phantom: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: str | None
) -> None:
    run = tmp_path / "run"
    train(phantom["acdc"], run, preset="quick", labels=labels, settings=TINY, device="cpu")
    _report(run)
    hint = capsys.readouterr().out.splitlines()[-1]
    assert hint.startswith(f"  or: coopseg evaluate --model {run} ")
    assert hint.endswith(" --labels 'RV=1,MYO=2,left ventricle=3'") == (labels is not None)


def test_a_damaged_record_is_used_or_named(
    phantom: dict[str, Path], tmp_path: Path, refuses_damage: Callable[..., int], coopseg: Callable[..., Any]
) -> None:
    run = train(phantom["acdc"], tmp_path / "run", preset="quick", settings=TINY, device="cpu")
    assert refuses_damage(run / "run.json", lambda: _report(run)) > 100
    used = run / "last.safetensors"  # what is said where a model is used can be done without
    assert refuses_damage(run / "run.json", lambda: stn_behind(validation_of(used))) == 0
    (run / "run.json").write_text('{"best": {}, "validations": []}')
    done = coopseg("train", "--resume", run)
    assert done.exit_code == 2
    assert f"error: {run / 'run.json'}: settings: Field required" in done.stderr


def test_a_second_opinion_that_is_worse_is_said() -> None:
    said = stn_behind({"FTN": {"mean": 0.475}, "FTN+STN": {"mean": 0.292}})
    assert said is not None
    assert "0.292, the FTN alone 0.475" in said
    assert "--refine 0" in said
    assert stn_behind({"FTN": {"mean": 0.82}, "FTN+STN": {"mean": 0.81}}) is None
    assert stn_behind({"FTN": {"mean": 0.82}}) is None


def test_it_is_said_again_where_the_model_is_used(
    coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path: Path
) -> None:
    """By the validation of the weights that are used, unless the FTN alone is written."""
    run = tmp_path / "run"
    settings = TINY | {"training.steps": 2, "training.validations": 2}
    train(phantom["acdc"], run, preset="quick", settings=settings, device="cpu")
    record = json.loads((run / "run.json").read_text())
    for step, (ftn, refined) in enumerate(((0.7, 0.5), (0.8, 0.79)), start=1):
        record["validations"][step - 1] |= {"FTN": {"mean": ftn}, "FTN+STN": {"mean": refined}}
    record["best"] = {"FTN": {"step": 2, "score": 0.8}, "FTN+STN": {"step": 1, "score": 0.5}}
    (run / "run.json").write_text(json.dumps(record))
    scan, data = phantom["acdc"] / "patientP001", ("--data", phantom["acdc"], "--no-pictures")
    words = "FTN+STN has a validation Dice of 0.500, the FTN alone 0.700"
    for number, (verb, weights, said) in enumerate(
        (
            (("predict", scan, "--head=FTN+STN"), "last.safetensors", False),
            (("predict", scan, "--head=FTN+STN"), "best_stn.safetensors", True),
            (("predict", scan), "best_stn.safetensors", False),  # the default writes the FTN's
            (("predict", scan, "--refine=0"), "best_stn.safetensors", False),
            (("predict", scan, "--head=FTN"), "best_stn.safetensors", False),
            (("evaluate", *data), "best_stn.safetensors", True),
        )
    ):
        done = coopseg(*verb, "--model", run / weights, "--device=cpu", "--out", tmp_path / str(number))
        assert done.exit_code == 0, done.stderr
        assert (words in done.stderr) == said, (verb, weights, done.stderr)
    record["validations"][1]["FTN+STN"]["mean"] = 0.6
    (run / "run.json").write_text(json.dumps(record))
    done = coopseg("predict", scan, "--head=FTN+STN", "--model", run, "--out", tmp_path / "last")
    assert f"warning: {run / 'last.safetensors'}: FTN+STN has a validation Dice of 0.600" in done.stderr
    (run / "run.json").write_text("{")
    assert coopseg("predict", scan, "--model", run, "--out", tmp_path / "damaged").exit_code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("read_inputs", "stopped before the training began; nothing is lost, give the same command again"),
        ("keep_freed_memory", "stopped; go on with `coopseg train --resume {out}`"),
    ],
)
def test_a_stop_before_the_first_step_says_how_to_go_on(
    coopseg: Callable[..., Any],
    phantom: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
    where: str,
    said: str,
) -> None:
    """A signal while scans are read, and one after request.json was written."""

    def kill(*_: object) -> NoReturn:
        os.kill(os.getpid(), number)
        raise AssertionError("not stopped")

    before, out = signal.signal(signal.SIGTERM, _terminate), tmp_path / "run"
    words = ("--data", phantom["acdc"], "--preset=quick", *(f"--set={k}={v}" for k, v in TINY.items()))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(f"coopseg.training.run.{where}", kill)
            done = coopseg("train", *words, "--device=cpu", "--out", out)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done.exit_code == code
    assert done.stderr.splitlines()[-1] == f"{out}: {said.format(out=out)}"
    again = ("--resume", out) if "--resume" in said else (*words, "--device=cpu", "--out", out)
    assert coopseg("train", *again).exit_code == 0


def test_calibrates_at_the_end(coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path: Path) -> None:
    """With the validation patients, if there are two or more; else a line says why not."""
    patients = sorted(entry.name for entry in phantom["acdc"].iterdir() if entry.is_dir())
    for count, wanted in ((2, True), (1, False)):
        split, run = tmp_path / f"{count}.json", tmp_path / f"run{count}"
        split.write_text(json.dumps({"train": patients[3:], "validate": patients[:count], "test": []}))
        words = [f"--set={key}={value}" for key, value in TINY.items()]
        given = ("--data", phantom["acdc"], "--split", split, "--preset=quick", "--device=cpu")
        done = coopseg("train", *given, *words, "--out", run)
        assert done.exit_code == 0, done.stderr
        found = load_model(run).calibration
        assert (found is not None) == wanted
        why = "not calibrated, so that predict expects no Dice ("
        assert (why in done.stderr) != wanted
        if found:
            assert found.patients == count
            assert "2 patients: too few for an interval" in done.stderr
            without = coopseg("train", *given, *words, "--no-calibrate", "--out", tmp_path / "without")
            assert without.exit_code == 0
            plain = load_model(tmp_path / "without")
            assert plain.calibration is None
            assert plain.sha256 == load_model(run).sha256


def test_a_run_that_has_ended_is_not_trained(coopseg: Callable[..., Any], trained: Path) -> None:
    done = coopseg("train", "--resume", trained)
    assert done.exit_code == 0
    assert done.stderr == (
        f"{trained}: this training has ended; to train longer, begin another with more training.steps\n"
    )
    assert "next: coopseg predict" in done.stdout
    none = coopseg("train", "--resume", trained / "none")
    assert none.stderr == (
        f"error: {trained / 'none'}: no such run; --resume takes the --out of an earlier training\n"
    )
