"""A disk without room: one line with the file that could not be written, and nothing left of it."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from coopseg.cli.console import say

SMALL = ("--set=cases.size=[16,16]", "--set=cases.spacing=3")
TINY = ("--preset=cpu", "--device=cpu", *SMALL, "--set=network.width=1", "--set=training.steps=1")


@contextmanager
def no_room(size: int = 0) -> Iterator[None]:
    """Lets no file of this process grow beyond `size` bytes: a write then fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_limit_works(tmp_path: Path) -> None:
    with no_room(), pytest.raises(OSError, match=r"Errno 27"), open(tmp_path / "x", "wb") as file:
        file.write(b"x")


@pytest.fixture
def words(data: Path, model: Path) -> dict[str, tuple[Any, ...]]:
    """What to do, by verb."""
    return {
        "train": ("train", "--data", data, *TINY),
        "predict": ("predict", "--device=cpu", "--model", model, data / "images"),
        "evaluate": ("evaluate", "--device=cpu", "--workers=1", "--model", model, "--data", data),
        "corrupt": ("corrupt", "--data", data, "--workers=1", "--copies=1", *SMALL),
        "benchmark": ("benchmark", "--data", data, *TINY, "--methods=standard", "--copies=1"),
    }


@pytest.mark.parametrize(
    ("verb", "room"),
    [(verb, 0) for verb in ("train", "predict", "evaluate", "corrupt", "benchmark")] + [("evaluate", 15_000)],
)
def test_one_line_names_the_file(
    coopseg: Callable[..., Any], words: dict[str, tuple[Any, ...]], tmp_path: Path, verb: str, room: int
) -> None:
    """With room for its tables, `evaluate` fails at the first picture, and goes on from its scores."""
    out = tmp_path / "out"
    with no_room(room):
        result = coopseg(*words[verb], "--out", out)
    assert result.exit_code == 2, (result.exception, result.stderr)
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: {out}/")
    assert "File too large" in last
    assert room == 0 or ".png: " in last
    assert result.stdout == ""
    assert out.exists() == (verb in ("train", "benchmark") or room > 0)
    if verb == "evaluate" and room:
        assert "4 volumes done before" in coopseg(*words[verb], "--out", out, "--resume").stderr
        assert (out / "evaluation.json").is_file()


def test_standard_output_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match=r"No space left on device: 'standard output'"):
            say("text")
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
