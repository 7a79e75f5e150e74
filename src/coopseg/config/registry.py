"""Rivals by name: those of this package, those a user registered, and classes given as module:class."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from coopseg.config.presets import RIVALS
from coopseg.errors import CoopsegError
from coopseg.text import shorten

_registered: dict[str, Callable[[], Any]] = {}


def register(name: str, make: Callable[[], Any]) -> None:
    """Give a method of one's own, a class or what makes one, the name under which `--method` finds it.

    Raises CoopsegError for a name that is taken or that `--method` could not tell from others.
    """
    if name in RIVALS or not name or any(mark in name for mark in "+:,"):
        raise CoopsegError(f"a method cannot be called {shorten(name)}: taken, or it holds one of + : ,")
    _registered[name] = make


def is_rival(name: str) -> bool:
    """Whether `name` means a rival: of this package, registered, or module:class."""
    return name in RIVALS or name in _registered or ":" in name


def rival_names() -> tuple[str, ...]:
    """Every name there is, of this package first."""
    return *RIVALS, *_registered


def maker_of(name: str) -> Callable[..., Any]:
    """The class of a rival of this package, or what a user gave for the name. Raises CoopsegError."""
    return _registered.get(name) or load_object(RIVALS.get(name, name))


def load_object(path: str) -> Any:
    """What "module:name" means; modules are looked for in the current folder too. Raises CoopsegError."""
    module, _, name = path.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CoopsegError(
            f"{shorten(path)} cannot be imported ({error}); give module:name, with the module in this folder "
            "or installed"
        ) from None
