"""Times what a user waits for before the first slice: `coopseg predict` in a new process, on one slice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measures.patient import save_random_model
from measures.predict import alternate

from coopseg.scans.nifti import write_image


def measure(*, preset: str = "miccai2021", repeats: int = 5, threads: int = 2) -> dict[str, Any]:
    """Times `coopseg predict` on a scan of one small slice, which is nearly all start-up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, scan, out = save_random_model(folder, preset), folder / "one.nii.gz", folder / "out"
        write_image(scan, np.random.default_rng(0).random((64, 64, 1)), affine=np.diag([1.4, 1.4, 10, 1.0]))

        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

        def start(*words: object) -> None:
            shutil.rmtree(out, ignore_errors=True)
            command = [sys.executable, *map(str, words)]
            subprocess.run(command, check=True, capture_output=True, env=environment)

        seconds = alternate(
            {
                "predict": lambda: start(
                    "-m", "coopseg", "predict", "--model", model, scan, "--out", out, "--device", "cpu"
                ),
                "import torch": lambda: start("-c", "import torch"),
                "help": lambda: start("-m", "coopseg", "--help"),
            },
            repeats,
        )
    return {
        "median_s": seconds["predict"],
        "import_torch_s": seconds["import torch"],
        "help_s": seconds["help"],
    }
