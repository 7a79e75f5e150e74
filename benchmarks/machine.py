"""Describes what a figure depends on besides the code."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def describe_machine(command: str) -> dict[str, Any]:
    """Returns processor, versions, commit, and the load before anything was measured."""
    import torch

    revision = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(revision, capture_output=True, text=True, cwd=HERE).stdout.strip()
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "vector": torch.backends.cpu.get_cpu_capability(),
        "bf16_hardware": torch.cpu._is_avx512_bf16_supported(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
        "command": command,
        "load_before": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name", platform.processor())
    return f"{name} family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
