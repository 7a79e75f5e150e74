"""A process of a benchmark that computes nothing: python -m toy BENCH WORD."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from coopseg.benchmark.executor import tether
from coopseg.errors import Stopped


def main(bench: Path, word: str) -> int:
    """Leave a note of having begun; then do what the word says."""
    with open(bench / f"{word}.begun", "a") as file:
        print(os.getpid(), os.getppid(), os.environ["OMP_NUM_THREADS"], file=file)
    print("hello from", word, flush=True)
    try:
        if word.startswith("wait"):
            deadline = time.monotonic() + 60
            while not (bench / f"{word}.go").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        if word == "abort":
            os.abort()
    except Stopped:
        (bench / f"{word}.saved").touch()
        return 143
    return 3 if word == "fail" else 0


if __name__ == "__main__":
    tether()
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
