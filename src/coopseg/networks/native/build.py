"""Compiles the fused kernels for this processor when first needed; everything works without them.

Every process builds them anew in a temporary folder, which takes two seconds. A library kept on disk would
have to be told apart by processor, compiler and version, and be trusted.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILERS = ("c++", "g++", "clang++")
FAST = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math")
FLAGS = (*FAST, "-std=c++17", "-fopenmp", "-shared", "-fPIC")
SWITCH = "COOPSEG_NATIVE"  # 0 turns the kernels off
TOO_LONG = 120  # seconds


class Kernels:
    """Holds the library, or the reason why there is none. True if it can be used."""

    def __init__(self, library: ctypes.CDLL | None, reason: str = "") -> None:
        self.library, self.reason = library, reason

    def __bool__(self) -> bool:
        return self.library is not None

    def __str__(self) -> str:
        return "native" if self else f"torch ({self.reason})"


@functools.cache
def kernels() -> Kernels:
    """Compiles the kernels, once per process. str() of the result says what is used and why."""
    if os.environ.get(SWITCH) == "0":
        return Kernels(None, f"{SWITCH}=0")
    compiler = next(filter(shutil.which, (os.environ.get("CXX", ""), *COMPILERS)), None)
    if compiler is None:
        return Kernels(None, "no C++ compiler")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels.so"
        try:
            subprocess.run(
                [compiler, *FLAGS, str(SOURCE), "-o", str(target)],
                check=True,
                capture_output=True,
                timeout=TOO_LONG,
                stdin=subprocess.DEVNULL,
            )
            return Kernels(ctypes.CDLL(str(target)))  # stays loaded when the file is gone
        except (OSError, subprocess.SubprocessError) as error:
            return Kernels(None, f"{compiler} failed: {type(error).__name__}")
