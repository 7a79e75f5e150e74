"""What a benchmark was asked for: benchmark.json, which grows by blocks and otherwise stays as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from coopseg.config.presets import MAIN_ROWS, POST_DAE, expand_methods
from coopseg.config.resolve import read_overrides, resolve_settings
from coopseg.config.section import Section
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import name_and_folder
from coopseg.rivals.registry import make_rivals
from coopseg.scans.files import write_atomically
from coopseg.text import listing, read_json, shorten

REQUEST = "benchmark.json"
WHOLE = "-"  # the draw that is the split itself


class Block(Section):
    """Every method with every draw and every seed."""

    methods: tuple[str, ...]
    draws: tuple[str, ...]
    seeds: tuple[int, ...]


class PredictorEntry(Section):
    """A row that is tested only. target: module:callable, an ONNX file or a run folder."""

    name: str
    target: str


class Request(Section):
    """All of it. Paths are absolute; data and cross may be NAME=FOLDER."""

    data: str
    cross: str | None = None
    split: str
    preset: str = "default"
    precision: Literal["32", "bf16"] = "32"
    device: str = "auto"
    settings: dict[str, Any] = Field(default_factory=dict)
    layout: str = "auto"
    labels: str | None = None
    spacing: Literal["true", "nominal"] = "true"
    copies: int = 3
    seed_of_corruption: int = 0
    equal_time: bool = False
    severities: tuple[float, ...] = ()
    severity_methods: tuple[str, ...] = ()
    predictors: tuple[PredictorEntry, ...] = ()
    blocks: tuple[Block, ...]
    started: str
    versions: dict[str, str] = Field(default_factory=dict)
    command: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[str, ...]:
        """The methods asked for, each once."""
        return tuple(dict.fromkeys(name for block in self.blocks for name in block.methods))

    @property
    def draws(self) -> tuple[str, ...]:
        """The draws asked for, each once."""
        return tuple(dict.fromkeys(draw for block in self.blocks for draw in block.draws))

    def severities_of(self, row: str) -> tuple[float, ...]:
        """Severities beside 1, which the evaluation itself measures."""
        return tuple(value for value in self.severities if value != 1) if row in self.severity_methods else ()


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


def make_block(methods: Sequence[str], draws: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """A block in plain values."""
    return {"methods": tuple(methods), "draws": tuple(map(str, draws)), "seeds": tuple(seeds)}


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


def check_request(request: Request) -> None:
    """Raise CoopsegError for rows that there are not, clashing names and numbers out of range."""
    for row in request.rows:
        if row != POST_DAE:
            settings = settings_of(request, row, seed=0)
            if ":" in row:  # a class of the user's: better to fail now than in every job
                make_rivals(settings.rivals)
    names = [*request.rows, *(entry.name for entry in request.predictors)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CoopsegError(f"two rows are called {listing(twice)}; give the predictor another name")
    if wrong := [entry.name for entry in request.predictors if not _is_name(entry.name)]:
        raise CoopsegError(
            f"a predictor cannot be called {shorten(wrong[0])}: use letters, digits and - _ . +"
        )
    if request.copies < 1:
        raise CoopsegError(f"copies must be 1 or more, found {request.copies}")
    if wrong_severities := [value for value in request.severities if value <= 0]:
        raise CoopsegError(f"severities must be above 0, found {wrong_severities[0]}")
    if bool(request.severities) != bool(request.severity_methods):
        raise CoopsegError("--severities and --severity-methods belong together; give both or none")
    if absent := [name for name in request.severity_methods if name not in names]:
        raise CoopsegError(f"--severity-methods: {listing(absent)} not in the grid; add them with --methods")
    if request.equal_time and not set(MAIN_ROWS) & set(request.rows):
        raise CoopsegError(
            f"--equal-time needs one of the rows {listing(MAIN_ROWS)}; add them with --methods"
        )
    if not names:
        raise CoopsegError("nothing to do: give --methods or --predictor")


def settings_of(request: Request, row: str, *, seed: int) -> Any:
    """Settings of a trained row. Raises CoopsegError as `resolve_settings` does."""
    return resolve_settings(
        preset=request.preset,
        method="standard" if row == POST_DAE else row,
        overrides=request.settings,
        seed=seed,
        precision=request.precision,
    )


def write_request(bench: Path, request: Request) -> None:
    """Into BENCH/benchmark.json."""
    text = json.dumps(request.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    write_atomically(bench / REQUEST, text.encode())


def read_request(bench: Path) -> Request:
    """From BENCH/benchmark.json. Raises CoopsegError where there is none, or it cannot be understood."""
    if not (bench / REQUEST).is_file():
        raise CoopsegError(f"{bench / REQUEST}: not found; --resume takes the --out of `coopseg benchmark`")
    try:
        return Request.model_validate(read_json(bench / REQUEST))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CoopsegError(f"{bench / REQUEST}: {where}: {first['msg']}; correct it or begin anew") from None


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


def methods_of(methods: str | Sequence[str]) -> tuple[str, ...]:
    """Names of rows from names and groups, in one text or several."""
    return expand_methods(methods if isinstance(methods, str) else ",".join(methods))


def _is_name(name: str) -> bool:
    return all(letter.isalnum() or letter in "-_.+ " for letter in name) and not name.startswith(".")
