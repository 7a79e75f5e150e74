"""Devices and precisions by name."""

from __future__ import annotations

import pytest
import torch

from coopseg.errors import CoopsegError
from coopseg.inference.device import choose_device, choose_dtype, usable_devices


def test_the_fastest_is_taken_and_the_cpu_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert usable_devices() == ("cpu",)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(CoopsegError, match="device 'cuda' is not available here; usable: auto, cpu"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


def test_precision() -> None:
    assert choose_dtype("32") == torch.float32
    assert choose_dtype("bf16") == torch.bfloat16
    with pytest.raises(CoopsegError, match="precision '16' is not known; use 32 or bf16"):
        choose_dtype("16")
