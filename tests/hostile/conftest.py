"""A program that has to refuse, with one line and without a trace, and what it is given."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # fuzz.py and its parts also run as a program

from models_in_danger import write_model

from coopseg.scans.nifti import write_image

PROGRESS = re.compile(r"reading |warning: |((evaluated|corrupted): )?\d+ of \d+[:,] ")
AFFINE = np.diag([-3.0, -3, 9, 1])


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder: files by content, others by kind."""
    found = {}
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        found[str(path.relative_to(folder))] = f"{kind} {hashlib.sha256(content).hexdigest()}"
    return found


@pytest.fixture
def refuses(coopseg: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """Runs the program with --out and checks how it ends: exit code 2, one line, `parts` in it, no trace."""

    def check(*words: Any, parts: tuple[Any, ...] = (), out: Path | None = None) -> str:
        out = out or tmp_path / "new" / "out"
        before = snapshot(tmp_path)
        result = coopseg(*words, "--out", out)
        assert result.exit_code == 2, (result.exit_code, result.exception, result.stderr)
        lines = [line for line in result.stderr.splitlines() if not PROGRESS.match(line)]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        for part in parts:
            assert str(part) in lines[0]
        assert len(lines[0]) < 1500
        assert result.stdout == ""
        assert snapshot(tmp_path) == before
        return lines[0]

    return check


@pytest.fixture(scope="session")
def model_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small model file."""
    path = tmp_path_factory.mktemp("small") / "model.safetensors"
    write_model(path)
    return path.read_bytes()


@pytest.fixture
def model(tmp_path: Path, model_bytes: bytes) -> Path:
    """A folder with last.safetensors."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "last.safetensors").write_bytes(model_bytes)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A plain data set of four patients, 16 x 16 x 2 voxels, with names for its labels."""
    folder = tmp_path / "data"
    generator = np.random.default_rng(0)
    for patient in ("p1", "p2", "p3", "p4"):
        label = generator.integers(0, 4, (16, 16, 2))
        write_image(folder / "labels" / f"{patient}.nii.gz", label, affine=AFFINE, dtype=np.uint8)
        image = label * 100 + generator.uniform(0, 50, label.shape)
        write_image(folder / "images" / f"{patient}.nii.gz", image, affine=AFFINE)
    (folder / "dataset.json").write_text('{"name": "toy", "labels": {"LV": 1, "MYO": 2, "RV": 3}}')
    return folder
