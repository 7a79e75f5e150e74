"""The allocator accepts its settings, and the peak counts what is held. What it saves: `make bench`."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from coopseg.training.memory import peak_memory_gb


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_glibc_takes_the_settings() -> None:
    # In a process of its own: the setting cannot be taken back.
    code = "from coopseg.training.memory import keep_freed_memory; print(keep_freed_memory())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True"


def test_the_peak_is_at_least_what_is_held() -> None:
    held = torch.ones(2**26)
    assert peak_memory_gb(torch.device("cpu")) > held.nbytes / 2**30
