"""What a benchmark was asked for: benchmark.json, which grows by blocks and otherwise stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from coopseg.config.methods import POST_DAE, split_row
from coopseg.config.resolve import override_scan_statistics, resolve_settings
from coopseg.config.section import Section
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.scans.files import write_atomically
from coopseg.text import read_json

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


def settings_of(request: Request, row: str, *, seed: int) -> Settings:
    """Settings of a row that is trained here, or of ROW@K. Raises CoopsegError as `resolve_settings` does."""
    base, k = split_row(row)
    settings = resolve_settings(
        preset=request.preset,
        method="standard" if base == POST_DAE else base,
        overrides=request.settings,
        seed=seed,
        precision=request.precision,
    )
    return override_scan_statistics(settings, k or None)


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
