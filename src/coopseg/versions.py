"""Lists what a result depends on besides settings and data."""

from __future__ import annotations

import platform
from importlib.metadata import version

LIBRARIES = ("torch", "numpy", "nibabel", "scipy", "lightning-fabric", "torchio", "safetensors")


def versions() -> dict[str, str]:
    """Returns versions of this package, Python and the libraries that compute, and the kind of processor."""
    found = {name: version(name) for name in ("coopseg", *LIBRARIES)}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}
