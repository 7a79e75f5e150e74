"""Kept memory is not cleared again by the kernel, which page faults show."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from coopseg.training.memory import peak_memory_gb

COUNT = """
import resource, torch
from coopseg.training.memory import keep_freed_memory
assert {keep} is False or keep_freed_memory()
def work():
    torch.empty(2**24).fill_(1)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    code = COUNT.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_kept_memory_is_not_faulted_in_again():
    assert faults(keep=True) < faults(keep=False) / 10


def test_the_peak_is_at_least_what_is_held():
    held = torch.ones(2**26)
    assert peak_memory_gb(torch.device("cpu")) > held.nbytes / 2**30
