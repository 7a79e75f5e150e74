"""Devices and precisions by name."""

from __future__ import annotations

import pytest
import torch

from coopseg.errors import CoopsegError
from coopseg.inference.device import choose_autocast, choose_device, usable_devices


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
    device = torch.device("cpu")
    a = torch.ones(2, 2)
    for precision, dtype in (("32", torch.float32), ("bf16", torch.bfloat16)):
        with choose_autocast(precision, device)():
            assert (a @ a).dtype == dtype
    with pytest.raises(CoopsegError, match="precision '16' is not known"):
        choose_autocast("16", device)
