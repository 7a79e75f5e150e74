"""Text that others wrote, as JSON, YAML, numbers and names: whatever is wrong with it is said in one line."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from coopseg.errors import CoopsegError

MAX_YAML = 2**18  # characters; more would take many seconds
LONGEST = 100  # characters of a foreign value in a message
DIGITS = 9  # of a whole number; it then fits 32 bits


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises CoopsegError for what is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise CoopsegError(f"{path}: cannot be read as text ({one_line(error)}); correct it") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises CoopsegError for anything else."""
    try:
        return parse_json(read_text(path))
    except CoopsegError:
        raise
    except ValueError as error:
        raise CoopsegError(f"{path}: cannot be read as JSON ({error}); correct it") from None


def parse_json(text: str) -> Any:
    """Raises ValueError for anything but JSON, for a key given twice and for thousands of nested brackets."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("too many nested brackets") from None


def parse_yaml(text: str) -> Any:
    """Plain values.

    Raises ValueError for tags of Python, aliases, a key given twice, numbers beyond 64 bits, and no YAML.
    """
    if len(text) > MAX_YAML:
        raise ValueError(f"{len(text)} characters are too many for YAML, use JSON")
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # of a tagged value that does not fit its tag PyYAML lets any kind through
        raise ValueError(one_line(error) or type(error).__name__) from None


def whole_number(text: str) -> int | None:
    """The number that at most nine decimal digits write, None for any other text ("²" is no digit here)."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) <= DIGITS else None


def shorten(value: object) -> str:
    """A foreign value for a message: in quotes where it is text, one line, never long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits or of brackets
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def listing(names: Collection[str], most: int = 20) -> str:
    """Foreign names for a message: separated by commas, at most `most`, each in one line and not long."""
    shown = [name if name.isprintable() and len(name) <= LONGEST else shorten(name) for name in names][:most]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def clock(seconds: float) -> str:
    """75 as 1:15, 3675 as 1:01:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def flatten(values: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Nested values by their whole names: {"training": {"steps": 5}} as {"training.steps": 5}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}{separator}{key}": leaf for key, leaf in flatten(value, separator).items()}
        else:
            flat[name] = value
    return flat


def one_line(error: Exception) -> str:
    """What a library says of a foreign file, for a message: one line, not long."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return " ".join((reason or type(error).__name__).split())[: 2 * LONGEST]


class _Loader(yaml.SafeLoader):
    """No aliases: with them a few hundred bytes can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise ValueError("a key is given twice")
        return mapping

    def construct_yaml_int(self, node: Any) -> int:
        number = super().construct_yaml_int(node)
        if abs(number) >= 2**63:
            raise ValueError("a number of more than 64 bits")
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a key is given twice")
    return entries
