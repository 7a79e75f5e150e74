"""Measures what oneDNN's fused operators bring to folded networks; nothing else may run meanwhile.

    python scripts/compare_onednn.py results/bench-onednn.json

Both heads of four slices of 192 × 192, width 16, with and without `coopseg.inference.onednn.pack`, in turn.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch

from coopseg.inference.onednn import pack
from coopseg.networks.cooperative import Networks
from coopseg.networks.fold import FoldedNetworks, fold
from coopseg.scans.files import write_json

PAIRS, WARM_UP = 40, 4


def folded(dtype: torch.dtype) -> FoldedNetworks:
    """Returns untrained networks, folded, in this precision."""
    torch.manual_seed(0)
    networks: FoldedNetworks = fold(Networks(classes=4).eval()).to(dtype)
    return networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@torch.inference_mode()
def compare(dtype: torch.dtype) -> dict[str, float]:
    """Returns the median ratio of the pairs, and the median milliseconds of each side."""
    sides = {"plain": folded(dtype), "packed": pack(folded(dtype))}
    images = torch.rand(4, 1, 192, 192).to(dtype).contiguous(memory_format=torch.channels_last)
    seconds: dict[str, list[float]] = {"plain": [], "packed": []}
    for number in range(WARM_UP + PAIRS):
        for name in ("plain", "packed") if number % 2 else ("packed", "plain"):
            begun = time.perf_counter()
            sides[name](images, refinements=1, temperature=2.0)
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - begun)
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["packed"], strict=True)]
    medians = {f"{name}_ms": round(1e3 * statistics.median(found), 1) for name, found in seconds.items()}
    return {"ratio": round(statistics.median(ratios), 3), **medians}


def main(out: Path) -> None:
    """Measures one and two threads in both precisions."""
    found = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for dtype in (torch.float32, torch.bfloat16):
            found[f"{threads} threads, {str(dtype).removeprefix('torch.')}"] = compare(dtype)
    amx = "amx_bf16" in Path("/proc/cpuinfo").read_text()
    write_json(out, {"pairs": PAIRS, "torch": torch.__version__, "amx": amx, "found": found})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
