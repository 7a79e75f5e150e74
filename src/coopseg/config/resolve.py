"""Turns the names that a user types into Settings: preset, then method, then single values."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from coopseg.config.methods import (
    DEFAULT_METHOD,
    METHODS,
    OF_PRESETS,
    POST_DAE,
    PRESETS,
    RIVALS,
)
from coopseg.config.rivals import RivalSettings
from coopseg.config.section import UNDER_RIVALS, Changes, Overrides
from coopseg.config.settings import OWN_KINDS, Settings
from coopseg.errors import CoopsegError
from coopseg.text import Json, parse_yaml, shorten

OFF = "off"  # a value of --scan-statistics
_registered: dict[str, Callable[[], Any]] = {}  # rivals of users


def resolve_settings(
    *,
    preset: str = "default",
    method: str | None = None,
    overrides: Changes = (),
    seed: int = 0,
    precision: str = "32",
) -> Settings:
    """Returns the settings of a run.

    method: None means a published preset's own method, else DEFAULT_METHOD. overrides:
    {"training.steps": 500} or ["training.steps=500"] with values as in YAML.
    Raises CoopsegError for an unknown preset, method or setting, naming the nearest known one, and for a
    value out of range.
    """
    if preset not in PRESETS:
        raise _unknown("preset", preset, PRESETS)
    if method is None:
        method = OF_PRESETS.get(preset, DEFAULT_METHOD)
    values: Json = {"preset": preset, "method": method, "seed": seed, "precision": precision}
    for layer in (PRESETS[preset].changes, choose_method(method)):
        for section, entries in layer.items():
            values.setdefault(section, {}).update(entries)
    for key, value in read_overrides(overrides).items():
        _set(values, key, value)
    settings = Settings.checked(values)
    if not any(name in _registered or ":" in name for name in settings.rivals.use):
        for name, own in settings.rivals.own.items():  # there is no method that could have such settings
            raise _unknown_setting(f"rivals.{name}.{next(iter(own), '')}")
    return settings


def choose_method(name: str) -> Overrides:
    """Returns the overrides of a method: BASE, RIVAL, or BASE+RIVAL with any number of rivals.

    A rival alone adds its terms to those of the method that it stands on. Raises CoopsegError for an unknown
    part.
    """
    base, *rivals = name.split("+")
    if is_rival(base):
        rivals.insert(0, base)
        base = RIVALS[base].base if base in RIVALS else UNDER_RIVALS
    if base == POST_DAE:
        raise CoopsegError(
            f"{POST_DAE} is trained after a standard training: `coopseg benchmark --methods {POST_DAE}`"
        )
    if base not in METHODS:
        raise _unknown("method", base, (*METHODS, *rival_names()))
    for rival in rivals:
        if not is_rival(rival):
            raise _unknown("rival", rival, rival_names())
    changes = METHODS[base].changes
    return {**changes, "rivals": {"use": tuple(rivals)}} if rivals else changes


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
    return _registered.get(name) or load_object(RIVALS[name].path if name in RIVALS else name)


def own_code(names: Iterable[str]) -> tuple[str, ...]:
    """Returns each "module:name" among the names of rivals or predictors, once: what would be imported."""
    return tuple(dict.fromkeys(name for name in names if ":" in name))


def check_named(wanted: Iterable[str], named: Collection[str], *, file: Path, how: str) -> None:
    """Raise CoopsegError for code that `file` asks for and that the user has not named in this very call.

    wanted: what `own_code` returned. how: the option that names it. A folder may come from anybody, and to
    import a module is to run it.
    """
    if unnamed := next((name for name in wanted if name not in named), None):
        raise CoopsegError(
            f"{file}: asks for the code {shorten(unnamed)}, and code is run only if you name it yourself; "
            f"if you trust it, add {how}{unnamed}"
        )


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


def read_overrides(overrides: Changes) -> Json:
    """Returns {"training.steps": 500}, given that or ["training.steps=500"]; a key's last value counts."""
    if isinstance(overrides, Mapping):
        return dict(overrides)
    return dict(parse_override(text) for text in overrides)


def override_scan_statistics(settings: Settings, wanted: float | str | None) -> Settings:
    """Returns `settings` with another prediction.scan_statistics.

    wanted: K, at least 0, as a number or as text; "off" for none; None leaves `settings` as they are.
    Raises CoopsegError for anything else.
    """
    if wanted is None:
        return settings
    kind = settings.network.kind
    if wanted != OFF and kind not in OWN_KINDS:
        raise CoopsegError(
            f"scan statistics {shorten(wanted)} are for the networks of this package, not for {kind}; "
            f"leave them out, or say {OFF}"
        )
    values = settings.model_dump()
    try:
        values["prediction"]["scan_statistics"] = None if wanted == OFF else float(wanted)
        return Settings.model_validate(values)
    except ValueError:  # pydantic's ValidationError is one
        raise CoopsegError(
            f"scan statistics {shorten(wanted)} cannot be used; give K, a number of slices from 0 up, "
            f"or {OFF}"
        ) from None


def parse_override(text: str) -> tuple[str, Any]:
    """Splits "training.steps=500" into ("training.steps", 500); the value is YAML, tags are refused."""
    key, equals, value = text.partition("=")
    if not equals:
        raise CoopsegError(f"cannot read setting {shorten(text)}: write it as section.key=value")
    try:
        return key.strip(), parse_yaml(value)
    except ValueError as error:
        raise CoopsegError(
            f"cannot read the value of setting {shorten(text)} ({error}): write it as in YAML"
        ) from None


def setting_fields(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, FieldInfo]:
    """Returns the field of every setting by "section.key"."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            found |= setting_fields(type(field.default), f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def _set(values: Json, key: str, value: Any) -> None:
    known = setting_fields()
    *sections, name = key.split(".")
    if sections[:1] == ["rivals"] and len(sections) == 2 and sections[1] not in RivalSettings.model_fields:
        sections.insert(1, "own")
    elif key not in known:
        raise _unknown_setting(key)
    for section in sections:
        values = values.setdefault(section, {})
    values[name] = value


def _unknown_setting(key: str) -> CoopsegError:
    near = _nearest(key, setting_fields())
    return CoopsegError(f"unknown setting {shorten(key)}{near}; `coopseg info --settings` lists them all")


def _unknown(kind: str, name: str, known: Iterable[str]) -> CoopsegError:
    return CoopsegError(f"unknown {kind} {shorten(name)}{_nearest(name, known)}; known: {', '.join(known)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f", did you mean {near[0]!r}?" if near else ""
