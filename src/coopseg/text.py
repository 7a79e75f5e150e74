"""Reads files, JSON, YAML, numbers and names of others; what is wrong with them is said in one line."""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError

Json = dict[str, Any]  # an object of a JSON or YAML file, as it was read or will be written

MAX_TEXT = 2**28  # bytes of a text file; a list of a million scans takes about as much
TOO_DEEP = re.compile(r"(?:[\[{]\s*){500}")
MAX_YAML = 2**18  # characters; more would take many seconds
LONGEST = 100  # most characters of a foreign value in a message
FORMULA = re.compile(r"[=+\-@\t\r].")  # where a spreadsheet begins to compute; a lone sign is text
NUMBER = re.compile(r"\d+(?:\.\d+)?")
MOST_ALIKE = 5  # lines that differ in numbers alone and are all shown
DIGITS = 9  # most digits of a whole number, so that it fits 32 bits


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file to read its bytes; a link to one is followed.

    Raises OSError, which names `path`, for anything else: a pipe would wait for a writer for ever, and a
    device such as /dev/zero has no end.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe is then opened at once
    kind = os.fstat(handle).st_mode
    if stat.S_ISREG(kind):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: Path) -> bytes:
    """Reads a regular file. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """Reads a UTF-8 file without its byte order mark. Raises CoopsegError if that fails."""
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig") as file:
            if os.fstat(file.fileno()).st_size > MAX_TEXT:
                raise ValueError(f"more than {MAX_TEXT} bytes")
            return file.read()
    except (OSError, ValueError) as error:
        raise CoopsegError(f"{path}: cannot be read as text ({one_line(error)}); correct it") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file. Raises CoopsegError for anything else."""
    try:
        return parse_json(read_text(path))
    except CoopsegError:
        raise
    except ValueError as error:
        raise CoopsegError(f"{path}: cannot be read as JSON ({error}); correct it") from None


def parse_json(text: str) -> Any:
    """Parses JSON. Raises ValueError for anything else, a key given twice and too many nested brackets."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("too many nested brackets") from None


def parse_yaml(text: str) -> Any:
    """Parses YAML into plain values.

    Raises ValueError for anything else, Python tags, aliases, a key given twice, and numbers beyond 64 bits.
    """
    if len(text) > MAX_YAML:
        raise ValueError(f"{len(text)} characters are too many for YAML, use JSON")
    if TOO_DEEP.search(text):  # PyYAML would read to the end for seconds before it gives up
        raise ValueError("too many nested brackets for the recursion of PyYAML")
    try:
        import yaml

        return yaml.load(text, _loader())
    except Exception as error:  # PyYAML lets any kind of error through for a value that does not fit its tag
        raise ValueError(one_line(error) or type(error).__name__) from None


def whole_number(text: str) -> int | None:
    """Reads a number of at most nine decimal digits; None for any other text ("²" is no digit here)."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) <= DIGITS else None


def shorten(value: object) -> str:
    """Shortens a foreign value for a message: to one line, in quotes if it is text."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits or of brackets
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def counted(number: int, what: str) -> str:
    """Writes a number with what it counts: "1 error", "2 errors"; the plural has an s at the end.

    >>> counted(1, "label map"), counted(0, "patient")
    ('1 label map', '0 patients')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def listing(names: Collection[str], most: int = 20) -> str:
    """Lists foreign names for a message: separated by commas, at most `most`, each short and in one line."""
    shown = [name if name.isprintable() and len(name) <= LONGEST else shorten(name) for name in names][:most]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def runs(numbers: Iterable[int]) -> str:
    """Writes whole numbers in order, those that follow each other as "3 to 7".

    >>> runs([1, 3, 4, 5, 9])
    '1, 3 to 5, 9'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in found)


def spreadsheet_safe(cell: object) -> object:
    """Puts an apostrophe before a text that a spreadsheet would compute, such as =HYPERLINK(...).

    >>> spreadsheet_safe("=1+1"), spreadsheet_safe(-1.5)
    ("'=1+1", -1.5)
    """
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def merge_lines(lines: Iterable[tuple[str, str]]) -> list[str]:
    """Writes (name, line) as "name: line", and a line that several names share once, after all of them.

    Of more than MOST_ALIKE lines that differ in numbers alone the first stands for all.

    >>> merge_lines([("a", "5 of 9 voxels"), ("b", "5 of 9 voxels"), ("c", "7 of 9 voxels")])
    ['a, b: 5 of 9 voxels', 'c: 7 of 9 voxels']
    """
    alike: dict[str, dict[str, list[str]]] = {}
    for name, line in lines:
        alike.setdefault(NUMBER.sub("#", line), {}).setdefault(line, []).append(name)
    merged = []
    for own in alike.values():
        if len(own) > MOST_ALIKE:
            names = list(dict.fromkeys(name for shared in own.values() for name in shared))
            line = next(iter(own))
            merged.append(
                f"{listing(names, most=3)}: {line} (numbers of {names[0]}, the others have their own)"
            )
        else:
            merged += [f"{listing(shared, most=3)}: {line}" for line, shared in own.items()]
    return merged


def clock(seconds: float) -> str:
    """Formats seconds: 75 as 1:15, 3675 as 1:01:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def flatten(values: Mapping[str, Any], separator: str = ".") -> Json:
    """Flattens nested values: {"training": {"steps": 5}} becomes {"training.steps": 5}."""
    flat: Json = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}{separator}{key}": leaf for key, leaf in flatten(value, separator).items()}
        else:
            flat[name] = value
    return flat


def one_line(error: Exception) -> str:
    """Shortens a library's error about a foreign file to one line for a message."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return " ".join((reason or type(error).__name__).split())[: 2 * LONGEST]


@functools.cache
def _loader() -> Any:
    """Makes the class that loads YAML; PyYAML is read when first needed, not for --help."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Loads YAML without aliases, with which a few hundred bytes can stand for gigabytes."""

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

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    return Loader


def _once(pairs: list[tuple[str, Any]]) -> Json:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a key is given twice")
    return entries
