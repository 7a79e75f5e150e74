"""The fused kernels against PyTorch's batch normalisation, addition and LeakyReLU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.networks.native import SWITCH, fits, kernels, normalise
from coopseg.networks.norm import Norm

EPSILON = 1e-5
needs_kernels = pytest.mark.skipif(not kernels(), reason=f"no fused kernels: {kernels()}")
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 2e-2}


def draw(channels: int, dtype: torch.dtype, *, batch: int = 3, side: int = 8, mean: float = 1.0) -> Tensor:
    x = torch.randn(batch, channels, side, side, dtype=torch.float64) * 2 + mean
    return x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def plain(x: Tensor, skip: Tensor | None, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    y = F.batch_norm(x, None, None, weight, bias, training=True, eps=EPSILON)
    y = y if skip is None else y + skip
    return F.leaky_relu(y, slope)


@needs_kernels
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("channels", [1, 4, 16, 64, 128, 256])
@pytest.mark.parametrize("with_skip", [False, True])
@pytest.mark.parametrize("slope", [0.2, 0.0, 1.0])
def test_values_and_gradients_are_those_of_torch(
    dtype: torch.dtype, channels: int, with_skip: bool, slope: float
) -> None:
    torch.manual_seed(channels)
    x, skip = draw(channels, dtype), draw(channels, dtype) if with_skip else None
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    weight, bias = (torch.randn(channels, dtype=kind, requires_grad=True) for _ in range(2))
    assert fits(x, skip)
    y, mean, variance = normalise(x, skip, weight, bias, epsilon=EPSILON, slope=slope)
    inputs = [x, weight, bias] if skip is None else [x, weight, bias, skip]
    seed = torch.randn(y.shape).to(dtype)
    found = torch.autograd.grad(y, inputs, seed)
    # what torch makes of the same values in float64
    exact: list[Any] = [
        None if t is None else t.detach().double().requires_grad_() for t in (x, skip, weight, bias)
    ]
    reference = plain(exact[0], exact[1], exact[2], exact[3], slope)
    wide = [exact[0], exact[2], exact[3]] + ([] if skip is None else [exact[1]])
    expected = torch.autograd.grad(reference, wide, seed.double())
    for ours, theirs in zip((y, *found), (reference, *expected), strict=True):
        assert (ours.double() - theirs).norm() <= TOLERANCE[dtype] * theirs.norm()
    torch.testing.assert_close(mean.double(), exact[0].mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variance.double(), exact[0].var((0, 2, 3), correction=0), rtol=1e-5, atol=1e-5)


@needs_kernels
def test_a_mean_far_from_zero_loses_no_digits() -> None:
    x = draw(16, torch.float32, side=64, mean=1e4)
    _, _, variance = normalise(x, None, torch.ones(16), torch.zeros(16), epsilon=EPSILON, slope=1.0)
    torch.testing.assert_close(variance.double(), x.double().var((0, 2, 3), correction=0), rtol=1e-5, atol=0)


@needs_kernels
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_nan_stays_a_nan(dtype: torch.dtype) -> None:
    x = draw(16, dtype).detach()
    x[0, 3, 0, 0] = torch.nan
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    y, _, _ = normalise(
        x, None, torch.ones(16, dtype=kind), torch.zeros(16, dtype=kind), epsilon=EPSILON, slope=0.2
    )
    assert y[:, 3].isnan().all()
    assert not y[:, 4].isnan().any()


@needs_kernels
def test_the_same_twice_gives_the_same_bits() -> None:
    x, weight, bias = draw(16, torch.float32, side=48), torch.rand(16), torch.rand(16)
    first, second = (normalise(x, None, weight, bias, epsilon=EPSILON, slope=0.2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_the_kernels_do_not_take() -> None:
    contiguous = torch.randn(2, 16, 8, 8)
    assert not fits(contiguous, None)
    assert not fits(draw(12, torch.float32), None)  # neither a divisor nor a multiple of 64
    assert not fits(draw(64, torch.float32, batch=1, side=1), None)  # one value has no variance
    assert not fits(draw(16, torch.float16), None)


@needs_kernels
@pytest.mark.parametrize("record", [True, False])
def test_norm_gives_the_same_with_and_without_them(record: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for layout in (torch.channels_last, torch.contiguous_format):  # the kernels take the first only
        torch.manual_seed(0)
        norm = Norm(16).double()
        norm.record = record
        x = torch.randn(3, 16, 8, 8, dtype=torch.float64).contiguous(memory_format=layout)
        skip = torch.randn(3, 16, 8, 8, dtype=torch.float64).contiguous(memory_format=layout)
        offset, skip_bias = torch.randn(2, 16, dtype=torch.float64)
        y = norm(x, slope=0.2, offset=offset, skip=skip, skip_bias=skip_bias)
        results.append((y, norm.running_mean, norm.running_var))
    torch.testing.assert_close(*results)
    assert bool(results[0][1].any()) == record


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(SWITCH, raising=False)
    kernels.cache_clear()
    yield
    kernels.cache_clear()


def test_switched_off(anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    assert not kernels()
    assert str(kernels()) == "torch (COOPSEG_NATIVE=0)"


def test_without_a_compiler(anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert str(kernels()) == "torch (no C++ compiler)"


def test_a_compiler_that_fails(anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    assert str(kernels()) == f"torch ({failing} failed: CalledProcessError)"
