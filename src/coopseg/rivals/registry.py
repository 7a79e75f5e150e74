"""Rivals by name: those of this package, those a user registered, and classes given as module:class."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from coopseg.config.presets import RIVALS
from coopseg.config.rivals import NormRule, RivalSettings
from coopseg.errors import CoopsegError
from coopseg.text import shorten

if TYPE_CHECKING:
    from coopseg.rivals.base import Rival

_registered: dict[str, Callable[[], Rival]] = {}


def register(name: str, make: Callable[[], Rival]) -> None:
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


def make_rivals(settings: RivalSettings) -> tuple[Rival, ...]:
    """The rivals that `settings.use` names. Raises CoopsegError for one that cannot be had."""
    return tuple(_make(name, settings) for name in settings.use)


def _make(name: str, settings: RivalSettings) -> Rival:
    if name in RIVALS:
        return load_object(RIVALS[name])(settings.of(name))
    made = (_registered[name] if name in _registered else load_object(name))()
    missing = [part for part in ("name", "norm", "sample", "at_codes", "add") if not hasattr(made, part)]
    if missing:
        raise CoopsegError(
            f"method {name}: has no {missing[0]}; derive it from coopseg.rivals.base.ImageRival"
        )
    if made.norm not in (rules := get_args(NormRule)):
        raise CoopsegError(f"method {name}: its norm is {shorten(made.norm)}; take one of {', '.join(rules)}")
    return made


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
