"""The Containerfile: what it copies is there, it does not run as root, and hadolint has no objection."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")


def test_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, ROOT / "Containerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_it_copies_is_there_and_let_in() -> None:
    let_in = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    lines = re.findall(r"^COPY (?!--)(.*) \S+$", TEXT, re.MULTILINE)
    copied = {name for line in lines for name in line.split()}
    assert copied == set(let_in)
    assert all((ROOT / name).exists() for name in copied)


def test_its_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r'"\.\[(.*)]"', TEXT)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_it_is_not_root_at_the_end() -> None:
    last = TEXT.rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\d+):\d+$", last, re.MULTILINE)
    assert users
    assert int(users[-1]) > 0
    assert "USER" not in last.partition(f"USER {users[-1]}")[2]
