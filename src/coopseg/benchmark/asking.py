"""From the arguments of `run_benchmark` to a request, and to one that asks for more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coopseg.benchmark.check import check_request
from coopseg.benchmark.kept import GONE
from coopseg.benchmark.request import Request
from coopseg.config.methods import expand_methods
from coopseg.config.resolve import read_overrides
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import name_and_folder
from coopseg.text import shorten


def make_request(values: Mapping[str, Any]) -> Request:
    """Check values as `run_benchmark` takes them, all but those that need the data."""
    given = dict(values)
    given["data"], given["cross"] = _absolute(given["data"]), _absolute(given.get("cross"))
    given["split"] = os.path.abspath(given["split"]) if os.path.exists(given["split"]) else given["split"]
    given["settings"] = read_overrides(given.get("settings", ()))
    given["predictors"] = parse_predictors(given.get("predictors", ()))
    given["severity_methods"] = methods_of(given.get("severity_methods", ()))
    request = _build(given)
    check_request(request)
    return request


def extend(
    request: Request,
    *,
    methods: str | Sequence[str] | None = None,
    draws: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    predictors: Iterable[str] = (),
    **given: Any,
) -> Request:
    """The request with a block, with predictors, and with what else may be added later.

    What a block does not say is as in the grid so far. given: any other argument of `run_benchmark`;
    severities, severity_methods and equal_time are added. Raises CoopsegError for one that has changed.
    """
    values = request.model_dump()
    if methods or draws or seeds:
        known_seeds = tuple(dict.fromkeys(seed for block in request.blocks for seed in block.seeds))
        rows = methods_of(methods) if methods else request.rows
        block = make_block(rows, draws or request.draws, seeds or known_seeds)
        values["blocks"] += () if block in values["blocks"] else (block,)
    values["predictors"] += tuple(
        entry for entry in parse_predictors(predictors) if entry not in values["predictors"]
    )
    if "severity_methods" in given:
        given["severity_methods"] = methods_of(given["severity_methods"])
    for name in ("severities", "severity_methods"):
        values[name] = tuple(dict.fromkeys((*values[name], *given.pop(name, ()))))
    values["equal_time"] |= given.pop("equal_time", False)
    _refuse_changes(request, given)
    extended = _build(values)
    check_request(extended)
    return extended


def locate(
    request: Request,
    *,
    data: str | Path,
    cross: str | Path | None = None,
    split: str | None = None,
    predictors: Iterable[str] = (),
) -> tuple[Request, tuple[str, ...]]:
    """The request of a kept benchmark with paths of this machine; and the predictors that it did not have.

    data, cross: FOLDER or NAME=FOLDER; without NAME as it was. Predictors whose names are known get their
    targets anew. Raises CoopsegError for a path that is missing.
    """
    if (request.cross is None) != (cross is None):
        raise CoopsegError(f"the benchmark had {'no ' if cross else 'a '}--cross; give it as it was")
    if split is None and request.split.startswith(GONE):
        raise CoopsegError(f"the benchmark had its split in {request.split}; give it with --split")
    given = {entry["name"]: entry for entry in parse_predictors(predictors)}
    values = request.model_dump() | {
        "data": _absolute(_named(data, request.data)),
        "cross": _absolute(_named(cross, request.cross)),
        "predictors": [given.pop(entry.name, entry.model_dump()) for entry in request.predictors],
    }
    if split is not None:
        values["split"] = os.path.abspath(split) if os.path.exists(split) else split
    return _build(values), tuple(f"{name}={entry['target']}" for name, entry in given.items())


def _named(entry: str | Path | None, was: str | None) -> str | None:
    """With the name that the data set had, unless it is given one."""
    if entry is None or was is None:
        return None
    name, equals, _ = was.partition("=")
    return str(entry) if name_and_folder(entry)[0] or not equals else f"{name}={entry}"


def make_block(methods: Sequence[str], draws: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """A block in plain values."""
    return {"methods": tuple(methods), "draws": tuple(map(str, draws)), "seeds": tuple(seeds)}


def methods_of(methods: str | Sequence[str]) -> tuple[str, ...]:
    """Names of rows from names and groups, in one text or several."""
    return expand_methods(methods if isinstance(methods, str) else ",".join(methods))


def parse_predictors(texts: Iterable[str]) -> tuple[dict[str, str], ...]:
    """Entries of NAME=TARGET. Raises CoopsegError for anything else."""
    entries = []
    for text in texts:
        name, equals, target = text.partition("=")
        if not (equals and name.strip() and target.strip()):
            raise CoopsegError(
                f"--predictor {shorten(text)}: write it as NAME=module:callable, NAME=FILE.onnx or NAME=RUN"
            )
        target = os.path.abspath(target) if os.path.exists(target) else target
        entries.append({"name": name.strip(), "target": target})
    return tuple(entries)


def _build(values: Mapping[str, Any]) -> Request:
    try:
        return Request.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise CoopsegError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']} (found {shorten(first['input'])})"
        ) from None


def _refuse_changes(request: Request, given: dict[str, Any]) -> None:
    """Everything in a grid is measured in the same way."""
    for name, value in given.items():
        was = getattr(request, name)
        if name in ("data", "cross"):
            value = _absolute(value)
        elif name == "split" and os.path.exists(value):
            value = os.path.abspath(value)
        elif name == "settings":
            value = read_overrides(value)
        if value != was:
            raise CoopsegError(
                f"cannot resume with another {name}: the benchmark began with {shorten(was)}, now given "
                f"{shorten(value)}; leave it out, or begin another with --out"
            )


def _absolute(entry: str | Path | None) -> str | None:
    if entry is None:
        return None
    name, folder = name_and_folder(entry)
    return (f"{name}=" if name else "") + os.path.abspath(folder)
