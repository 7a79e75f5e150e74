"""JSON, YAML, numbers and names of others, against the plain libraries where they are sound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coopseg.errors import CoopsegError
from coopseg.text import (
    LONGEST,
    MAX_YAML,
    clock,
    flatten,
    listing,
    merge_lines,
    parse_json,
    parse_yaml,
    read_json,
    read_text,
    shorten,
    whole_number,
)

LEAVES = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text("abc é:#-'\"", max_size=9)
PLAIN = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=5), inner)
)


@given(PLAIN)
def test_plain_values_come_through(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "a key is given twice"),
        ('[{"b": {"a": 1, "a": 2}}]', "a key is given twice"),
        ("[" * 10**5, "nested brackets"),
        ("9" * 5000, "4300"),
        ("{'a': 1}", "Expecting"),
    ],
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("&x [*x]", "aliases"),
        ("a: 1\na: 2", "a key is given twice"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("!!bool x", "'x'"),
        ("0x" + "f" * 17, "64 bits"),
        ("[" * 5000, "recursion"),
        ("[1", "expected"),
        ("a" * (MAX_YAML + 1), "use JSON"),
    ],
)
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        parse_yaml(text)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("text", ["0", "7", " 12 ", "007", "999999999", "٣"])
def test_whole_numbers(text: str) -> None:
    assert whole_number(text) == int(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "²", "1_0", "1 2", "1234567890", "9" * 5000, "x"])
def test_no_whole_numbers(text: str) -> None:
    assert whole_number(text) is None


@given(st.one_of(st.text(), st.lists(st.text()), st.integers(), st.binary()))
def test_shortened_values_are_one_short_line(value: object) -> None:
    assert shorten(value).isprintable()
    assert len(shorten(value)) <= LONGEST + 3
    assert shorten(value).removesuffix("...") in repr(value)


def test_values_that_cannot_be_shown() -> None:
    assert shorten(10**5000) == "a int too large to show"


def test_listing() -> None:
    assert listing(["a", "b"]) == "a, b"
    assert listing(["a\nb"]) == r"'a\nb'"
    assert listing([str(index) for index in range(30)], 2) == "0, 1 and 28 more"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
    for content, message in ((b"\xff", "cannot be read as text"), (b"{", "cannot be read as JSON")):
        path.write_bytes(content)
        with pytest.raises(CoopsegError, match=f"{path}: {message}"):
            read_json(path)
    with pytest.raises(CoopsegError, match="directory"):
        read_text(tmp_path)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75.4, "1:15"), (3675, "1:01:15")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_flatten() -> None:
    nested = {"a": 1, "b": {"c": [1, 2], "d": {"e": None}}}
    assert flatten(nested) == {"a": 1, "b.c": [1, 2], "b.d.e": None}
    assert flatten(nested, "/") == {"a": 1, "b/c": [1, 2], "b/d/e": None}


def test_many_lines_that_differ_in_numbers_alone_become_one() -> None:
    lines = [(f"p{number}", f"slices {number} mm apart; check it") for number in range(6)]
    assert merge_lines(lines[:5]) == [f"{name}: {line}" for name, line in lines[:5]]
    assert merge_lines([*lines, ("p9", "another line")]) == [
        "p0, p1, p2 and 3 more: slices 0 mm apart; check it (numbers of p0, the others have their own)",
        "p9: another line",
    ]
