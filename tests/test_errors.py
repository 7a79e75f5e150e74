"""Errors that a user is meant to see."""

from __future__ import annotations

import pytest

from coopseg.errors import CoopsegError, enough_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_the_end_of_the_memory_is_one_line(error: Exception) -> None:
    def work() -> None:
        with enough_memory("segmenting", "x.nii"):
            raise error

    with pytest.raises(CoopsegError, match=r"^x\.nii: too little memory for segmenting it; "):
        work()


def test_other_errors_pass() -> None:
    def work() -> None:
        with enough_memory("segmenting", "x.nii"):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        work()
