"""Imports run one way: a package imports those above it in the table of CONTRIBUTING.md, and no others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import coopseg

SOURCES = Path(coopseg.__file__).parent
TABLE = Path(__file__).parents[1] / "CONTRIBUTING.md"
FIRST = (
    "__init__",
    "errors",
    "text",
    "versions",
    "workers",
)  # single files beside the packages, which all may import


def order() -> list[str]:
    """The packages, lowest first, as the table lists them."""
    return [*FIRST, *re.findall(r"^\| `([a-z]+)(?:/|\.py)` \|", TABLE.read_text(), re.MULTILINE), "__main__"]


def imported(file: Path) -> set[str]:
    """The packages of coopseg that a file imports, also within functions and for annotations only."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [
        f"coopseg.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "coopseg"
        for alias in node.names
        if not alias.name.startswith("__")
    ]
    return {name.split(".")[1] for name in names if name.startswith("coopseg.")}


def place(file: Path) -> str:
    """The package, or the single file, that a source file belongs to."""
    return file.relative_to(SOURCES).with_suffix("").parts[0]


def test_the_table_names_every_package_once() -> None:
    listed = order()
    assert len(set(listed)) == len(listed)
    assert set(listed) == {place(file) for file in SOURCES.rglob("*.py")}


# the public names of __init__ are looked up only when they are asked for
@pytest.mark.parametrize("name", sorted({place(file) for file in SOURCES.rglob("*.py")} - {"__init__"}))
def test_imports_run_one_way(name: str) -> None:
    listed = order()
    for file in SOURCES.rglob("*.py"):
        if place(file) == name:
            later = {other for other in imported(file) if listed.index(other) > listed.index(name)}
            assert not later, f"{file.relative_to(SOURCES)} imports {later}, which come after {name}"
