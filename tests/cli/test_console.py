"""Progress as text: a line now and then into a file, a live bar on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from coopseg.cli import console
from coopseg.cli.console import DemoDisplay, TrainingDisplay, counting, dice_of_heads, fail, loss_terms, say
from coopseg.demo import DemoProgress
from coopseg.errors import CoopsegError
from coopseg.training.log import Values
from coopseg.training.loop import Progress

LOSSES: Values = {"segmentation": 0.5, "total": 1.25, "rise": {"image/channel": 2.0}, "learning_rate": 1e-3}
SCORES = {"FTN": {"mean": 0.5, "LV": 0.6, "MYO": 0.4}, "FTN+STN": {"mean": 0.25, "LV": 0.25, "MYO": 0.25}}


def progress(step: int, kind: str = "train", values: Values = LOSSES) -> Progress:
    return Progress(step, 100, 3675.2, kind, values)


def test_numbers_in_words() -> None:
    assert loss_terms(LOSSES) == "segmentation 0.500  total 1.250"
    assert dice_of_heads(SCORES) == ("FTN 0.500 (LV 0.600, MYO 0.400); FTN+STN 0.250 (LV 0.250, MYO 0.250)")


def test_without_a_terminal_lines_are_spaced_out_but_the_last_one_and_scores_always_come() -> None:
    stream = io.StringIO()
    with TrainingDisplay(stream) as display:
        for step in (20, 40, 60):
            display(progress(step))
        display(progress(60, "validation", SCORES))
        display(progress(100))
    assert stream.getvalue().splitlines() == [
        "step 20 of 100, 1:01:15 left: segmentation 0.500  total 1.250",
        f"step 60 of 100: validation Dice {dice_of_heads(SCORES)}",
        "step 100 of 100, 1:01:15 left: segmentation 0.500  total 1.250",
    ]


def test_a_training_begins_with_what_the_crop_cuts() -> None:
    stream = io.StringIO()
    crop = "crop of 32 x 32 pixels cuts 3.0% of LV"
    values: dict[str, Any] = {"method": "standard", "crop": crop, "training_slices": 5}
    with TrainingDisplay(stream) as display:
        display(replace(progress(0, "start"), values=values))
        display(replace(progress(0, "start"), values={"adapted": "adapted to 2 scans", **values}))
        few: dict[str, Any] = {
            "method": "standard",
            "crop": crop,
            "training_patients": 1,
            "validation_patients": 0,
        }
        display(replace(progress(0, "start"), values=few | {"filled_share": 0.013}))
    method = "method standard: 100 steps on 5 training slices"
    assert stream.getvalue().splitlines() == [
        crop,
        method,
        "adapted to 2 scans",
        crop,
        method,
        crop,
        "method standard: 100 steps on 1 training patient, 0 validation patients",
        "augmentation turns and moves slices: 1.3% of their pixels then lie outside the scan and are filled "
        "with the nearest one at its border",
    ]


def test_on_a_terminal_there_is_a_bar_and_scores_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    with TrainingDisplay(stream) as display:
        display(progress(50))
        display(progress(50, "validation", SCORES))
    for part in ("step 50 of 100", "1:01:15 left", "segmentation 0.500", "validation Dice FTN 0.500"):
        assert part in stream.getvalue()


def test_the_demo_has_one_bar_and_names_its_stages_once() -> None:
    stream = io.StringIO()
    with DemoDisplay(stream) as display:
        display(DemoProgress(0.0, 200.0, "making scans"))
        display(DemoProgress(0.25, 150.0, "training", progress(20)))
        display(DemoProgress(0.3, 140.0, "training", progress(40)))
        display(DemoProgress(0.3, 140.0, "training", progress(40, "validation", SCORES)))
        display(DemoProgress(1.0, 0.0, "report"))
    assert stream.getvalue().splitlines() == [
        "  0%  making scans",
        "making scans, 3:20 left",
        " 25%  training",
        f"      step 40: validation Dice {dice_of_heads(SCORES)}",
        "100%  report",
        "report, 0:00 left",
    ]


def test_counting(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with counting("done") as report:
        report(1, 3, "a")
        monkeypatch.setattr(console, "QUIET", 0.0)
        report(2, 3, "b")
        monkeypatch.setattr(console, "QUIET", 60.0)
        report(3, 3, "c")
    assert capsys.readouterr().err == "done: 2 of 3, b\ndone: 3 of 3, c\n"


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    fail(CoopsegError("file: wrong\nthing"))
    assert capsys.readouterr().err == "error: file: wrong thing\n"


def test_control_characters_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    """A file may be called so that a terminal clears itself, or writes its name from right to left."""
    name = "a\x1b[2Jb\rc\x07\u202ed\x9be\udcfff.nii"
    stream = io.StringIO()
    say(f"{name}\nsecond line")
    fail(CoopsegError(name))
    with TrainingDisplay(stream) as display:
        display.say(name)
        display.show(1.0, 0.0, name, name)
    with counting(name) as report:
        report(1, 1, name)
    for text in (*capsys.readouterr(), stream.getvalue()):
        assert all(line.isprintable() for line in text.split("\n"))
        assert r"\x1b[2Jb" in text
        assert r"\u202ed\x9be\udcfff.nii" in text
