"""`make bench`: step and prediction, each in a fresh process, with machine, commit and command as JSON.

Nothing else may run meanwhile; the load average before the first measurement is written down with the rest.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STEP = {"preset": "miccai2021", "method": "cooperative"}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "bare import": ("import", {}),
    "step cooperative, float32": ("step", STEP),
    "step standard, float32": ("step", {**STEP, "method": "standard"}),
    "step cooperative, bf16": ("step", {**STEP, "precision": "bf16", "repeats": 1}),
    "step cooperative, preset cpu": ("step", {**STEP, "preset": "cpu"}),
    "step standard, preset cpu": ("step", {**STEP, "preset": "cpu", "method": "standard"}),
    "predict FTN": ("predict", {"preset": "miccai2021", "refinements": 0}),
    "predict FTN+STN": ("predict", {"preset": "miccai2021", "refinements": 1}),
}


def measure(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "measure.py"), kind, json.dumps(arguments)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=HERE
    ).stdout.strip()
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "vector": torch.backends.cpu.get_cpu_capability(),
        "bf16_hardware": torch.cpu._is_avx512_bf16_supported(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
        "command": "make bench",
        "load_before": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return f"{fields.get('model name', platform.processor())} family {fields.get('cpu family', '?')}"


def line(name: str, result: dict[str, Any]) -> str:
    text = f"{name:32} {result['median_s']:8.2f} s {result['peak_gb']:6.2f} GB"
    if "slices_per_s" in result:
        text += f"  {result['slices_per_s']:.1f} slices/s"
    return text


def main(out: Path) -> None:
    results: dict[str, Any] = {"machine": machine(), "rows": {}}
    for name, (kind, arguments) in ROWS.items():
        if arguments.get("precision") == "bf16" and not results["machine"]["bf16_hardware"]:
            # Emulated bf16 takes minutes a step and says nothing about a processor that has it.
            print(f"{name:32} left out: this processor has no bf16")
            continue
        results["rows"][name] = {"arguments": arguments, **measure(kind, arguments)}
        print(line(name, results["rows"][name]), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parent / "results" / "bench.json"))
