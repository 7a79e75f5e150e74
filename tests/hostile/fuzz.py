"""Damaged files by number, read in a process of its own: `fuzz.py FIRST COUNT`, prints a summary as JSON.

Every number gives the same file each time, so that `fuzz.py NUMBER 1` repeats a failure.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import models_in_danger
import numpy as np
import scans_in_danger
import texts_in_danger
import torch

from coopseg.training.processes import peak_memory_gb

SEED = 20211
MEMORY = 2 * 2**30  # bytes, of the whole process
SECONDS = 10.0  # of processor time, for a file


class TooSlow(BaseException):
    """No reader may catch it."""


def stop(*_: Any) -> None:
    raise TooSlow


def check(number: int, folder: Path, bases: list[Any], model: bytes, texts: list[Any]) -> tuple[str, str]:
    """(kind, verdict) of one damaged file."""
    generator = np.random.default_rng([SEED, number])
    family = generator.choice(["scan", "model", "text"], p=[0.45, 0.1, 0.45])
    if family == "scan":
        suffix = str(generator.choice([".nii", ".nii.gz"]))
        base = bases[int(generator.integers(len(bases)))]
        return scans_in_danger.check(folder / f"scan{suffix}", base, generator)
    if family == "model":
        return models_in_danger.check(folder / "last.safetensors", model, generator)
    return texts_in_danger.check(texts, generator)


def main(first: int, count: int, folder: Path) -> None:
    """Check `count` files from number `first` on."""
    models_in_danger.write_model(folder / "model.safetensors")
    model = (folder / "model.safetensors").read_bytes()
    bases, texts = scans_in_danger.bases(), texts_in_danger.make_texts(folder / "texts")
    verdicts: dict[str, Counter[str]] = {}
    slowest = (0.0, first)
    for number in range(first, first + count):
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            kind, verdict = check(number, folder, bases, model, texts)
        except BaseException:
            print(f"damaged file {number}", file=sys.stderr)
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        verdicts.setdefault(kind, Counter())[verdict] += 1
        slowest = max(slowest, (time.process_time() - started, number))
    left = sorted(path.name for path in folder.iterdir())
    peak = peak_memory_gb(torch.device("cpu")) * 2**30
    print(json.dumps({"verdicts": verdicts, "slowest": slowest, "peak": peak, "left": left}))


if __name__ == "__main__":
    warnings.simplefilter("error")
    signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as scratch:
        main(int(sys.argv[1]), int(sys.argv[2]), Path(scratch))
