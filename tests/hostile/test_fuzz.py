"""Damaged files by the hundred: each ends in one clear line, or in exactly what its bytes say.

What "exactly" means is checked by Python's own gzip and by a reader written from the standard alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

FOLDER = Path(__file__).parent
MEMORY = 2 * 2**30  # bytes, of the whole process


def run(first: int, count: int, folder: Path) -> Any:
    """`fuzz.py` in a process of its own, whose memory and time are limited."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "fuzz.py"), str(first), str(count)],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=60 + count / 10, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""  # no library speaks past the one line
    assert list(folder.iterdir()) == []  # nor is anything written beside
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 500), pytest.param(500, 10_000, marks=pytest.mark.slow)], ids=["fast", "slow"]
)
def test_damaged_files(first: int, count: int, tmp_path: Path) -> None:
    summary = run(first, count, tmp_path)
    verdicts: dict[str, dict[str, int]] = summary["verdicts"]
    assert sum(sum(found.values()) for found in verdicts.values()) == count
    assert summary["peak"] < MEMORY
    assert summary["left"] == ["last.safetensors", "model.safetensors", "scan.nii", "scan.nii.gz", "texts"]
    for kind, found in verdicts.items():
        group = kind.partition("/")[0]
        assert group != "legal" or set(found) == {"read"}, kind
        assert kind not in ("gzip/wrong-crc", "gzip/cut-member") or set(found) == {"refused"}, kind
        assert group != "model" or "/forged" not in kind or set(found) == {"refused"}, kind
    assert {"refused", "read"} <= set(verdicts["inside/header"])  # both ends are seen
    assert len(verdicts) > 40


def test_the_reference_reads_as_nibabel_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    from plain_nifti import decode
    from scans_in_danger import bases

    made = bases()
    for base in made:
        image = (nib.Nifti1Image if base.version == 1 else nib.Nifti2Image).from_bytes(base.content)
        decoded = decode(base.content)
        np.testing.assert_array_equal(decoded.values.reshape(image.shape), image.get_fdata())
        if image.header["qform_code"] or np.allclose(np.diag(image.affine)[:3], (-1.5, -1.25, 8)):
            np.testing.assert_allclose(decoded.affine, image.affine, atol=1e-5)
    assert len(made) == 10
