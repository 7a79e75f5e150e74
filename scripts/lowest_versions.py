"""Prints pip's constraints for the lowest version of every package that pyproject.toml promises to work with.

    python scripts/lowest_versions.py > lowest.txt

torch is left out: it stays at the release in constraints.txt. So are tools that only
developers run.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
USED = "track", "onnx", "cluster", "dicom", "serve"  # the extras that the package itself imports


def lowest_versions(project: str) -> Iterator[str]:
    """Yields NAME==VERSION for each NAME>=VERSION among the requirements of the package and its extras."""
    table = tomllib.loads(project)["project"]
    extras = table["optional-dependencies"]
    for requirement in [*table["dependencies"], *(entry for extra in USED for entry in extras[extra])]:
        bound = re.match(r"([\w-]+)>=([\d.]+)", requirement)
        if bound is None:
            raise ValueError(f"{PROJECT}: {requirement} has no lower bound; write NAME>=VERSION")
        if bound[1] != "torch":
            yield f"{bound[1]}=={bound[2]}"


if __name__ == "__main__":
    print("\n".join(lowest_versions(PROJECT.read_text(encoding="utf-8"))))
