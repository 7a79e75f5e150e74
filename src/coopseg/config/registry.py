"""Finds rivals by name: those of this package, those a user registered, and classes given as module:class."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from coopseg.config.presets import METHODS, RIVALS
from coopseg.errors import CoopsegError
from coopseg.text import shorten

_registered: dict[str, Callable[[], Any]] = {}


def register(name: str, make: Callable[[], Any]) -> None:
    """Register your own method, a class or a function that makes an instance, under a name for `--method`.

    Raises CoopsegError for an empty name, one that this package uses, and one with "+", ":" or ",".
    """
    if name in {**RIVALS, **METHODS} or not name or any(mark in name for mark in "+:,"):
        raise CoopsegError(f"a method cannot be called {shorten(name)}: taken, or it holds one of + : ,")
    _registered[name] = make


def is_rival(name: str) -> bool:
    """Tells whether `name` means a rival: one of this package, a registered one, or module:class."""
    return name in RIVALS or name in _registered or ":" in name


def rival_names() -> tuple[str, ...]:
    """Returns the names of all rivals, those of this package first."""
    return *RIVALS, *_registered


def maker_of(name: str) -> Callable[..., Any]:
    """Returns the class of a rival of this package, or what a user registered. Raises CoopsegError."""
    return _registered.get(name) or load_object(RIVALS.get(name, name))


def load_object(path: str) -> Any:
    """Imports "module:name"; the current folder is searched too. Raises CoopsegError if that fails."""
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
