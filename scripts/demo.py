"""`make demo`: the main job on made-up scans, with the commands one would type for real ones.

    python scripts/demo.py FOLDER

Writes FOLDER/phantom (two sites), FOLDER/run, FOLDER/predictions, FOLDER/corrupted and FOLDER/results.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import coopseg

# Small enough for a few minutes on two cores; a real training leaves these settings alone.
SMALL = ["cases.size=[96,96]", "cases.spacing=2.6", "network.width=8", "training.steps=300"]


def run(*words: str | Path) -> None:
    """Show a command, run it, and stop the demo if it fails."""
    command = ["coopseg", *map(str, words)]
    print(f"\n$ {shlex.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True)


def main(folder: Path) -> None:
    start = time.monotonic()
    if folder.exists():
        shutil.rmtree(folder)
    print(f"making two phantom sites in {folder}/phantom", flush=True)
    data = coopseg.write_phantom(folder / "phantom", patients=10, size=96, slices=6)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    run("train", "--data", data["acdc"], "--preset", "cpu", "--out", folder / "run", *settings)
    run("predict", "--model", folder / "run", data["mnms"], "--out", folder / "predictions")
    part = ["--split", folder / "run"]  # the test patients of that training
    run("corrupt", "--data", data["acdc"], *part, "--copies", "1", "--out", folder / "corrupted")
    sets = [f"site1={data['acdc']}", folder / "corrupted", f"site2={data['mnms']}"]
    words = [word for name in sets for word in ("--data", name)]
    run("evaluate", "--model", folder / "run", *words, *part, "--out", folder / "results")
    minutes = (time.monotonic() - start) / 60
    print(f"\nDone in {minutes:.1f} minutes. Look at {folder}/results/metrics.md and its pictures.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
