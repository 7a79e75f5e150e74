"""The program itself: quick help, exit codes, and errors that are one line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coopseg import __version__

VERBS = (
    "import", "validate", "train", "predict", "measure", "corrupt", "evaluate", "benchmark", "report", "info",
    "demo",
)  # fmt: skip
HEAVY = ("torch", "numpy", "scipy", "pandas", "nibabel", "torchio", "matplotlib", "lightning_fabric", "yaml")
HELP = f"""
import sys
from coopseg.cli.main import app
for words in [[], *([verb] for verb in {VERBS})]:
    try:
        app([*words, "--help"])
    except SystemExit as ended:
        assert ended.code == 0, words
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""


def test_help_loads_no_heavy_library() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
    for verb in VERBS:
        assert f"  {verb} " in done.stdout


def test_module_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "coopseg", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{__version__}\n"


def test_help_shows_defaults_and_choices(coopseg: Callable[..., Any]) -> None:
    text = " ".join(coopseg("train", "--help").stdout.split())
    for part in (
        "auto|cpu|cuda|mps",
        "32|bf16",
        "[default: (coopseg; with a published preset cooperative)]",
        "miccai2021",
        "[default: random]",
    ):
        assert part in text


def test_unknown_options_exit_2(coopseg: Callable[..., Any]) -> None:
    result = coopseg("train", "--dta", "x")
    assert result.exit_code == 2
    assert "--dta" in result.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupt_ends_with_130_and_a_bug_is_raised(
    coopseg: Callable[..., Any], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise error

    monkeypatch.setattr("coopseg.cli.info._facts", stop)
    result = coopseg("info")
    if error is KeyboardInterrupt:
        assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    else:
        assert isinstance(result.exception, ZeroDivisionError)


def test_sigterm_leaves_no_half_filled_output(phantom: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "made" / "out"
    command: list[Any] = [
        sys.executable,
        "-m",
        "coopseg",
        "corrupt",
        "--workers=1",
        "--data",
        phantom["acdc"],
        "--out",
        out,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not any(out.rglob("*.nii.gz")):
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        _, errors = process.communicate()
    assert process.returncode == 143
    assert b"Traceback" not in errors
    assert errors.endswith(b"stopped by SIGTERM\n")
    assert not (tmp_path / "made").exists()
