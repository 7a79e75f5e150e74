"""Says what a benchmark was asked for: benchmark.json, which grows by blocks and otherwise stays as it is."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from coopseg.config.methods import MAIN_ROWS, POST_DAE, TITLES, expand_methods, split_row, title_of
from coopseg.config.resolve import (
    check_named,
    override_scan_statistics,
    own_code,
    read_overrides,
    resolve_settings,
)
from coopseg.config.section import Section
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import name_and_folder
from coopseg.results.study import WHOLE
from coopseg.scans.files import write_json
from coopseg.text import Json, listing, read_json, shorten
from coopseg.training.rival import make_rivals
from coopseg.versions import versions

REQUEST = "benchmark.json"


class Block(Section):
    """Asks for every method with every draw and every seed."""

    methods: tuple[str, ...]
    draws: tuple[str, ...]
    seeds: tuple[int, ...]


class PredictorEntry(Section):
    """Asks for a row that is only tested. target: module:callable, an ONNX file or a run folder."""

    name: str
    target: str


class Request(Section):
    """Holds all that a benchmark was asked for; `coopseg benchmark` has an option for each field.

    data: folder of the data set to train and test on, absolute or as NAME=FOLDER. cross: the same for one of
    other sites, which is tested on only. split: "random", the name of a split, a file, or a folder of files
    DRAW.json. settings: overrides such as {"training.steps": 500}. spacing: "nominal" if headers hold no true
    spacing. copies: of each test volume and corruption. equal_time: train the main rows once more, for as
    long as cooperative training takes. severities: factors on the corruptions, for the rows of
    `severity_methods`. blocks: what is trained: every method of a block with each of its draws and seeds.
    titles: of rows, where the user names them.
    started, versions, command: when and how the benchmark began.
    """

    data: str
    cross: str | None = None
    split: str = "random"
    preset: str = "default"
    precision: Literal["32", "bf16"] = "32"
    device: str = "auto"
    settings: Json = Field(default_factory=dict)
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
    titles: dict[str, str] = Field(default_factory=dict)
    started: str
    versions: dict[str, str] = Field(default_factory=dict)
    command: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[str, ...]:
        """Returns the methods asked for, each once."""
        return tuple(dict.fromkeys(name for block in self.blocks for name in block.methods))

    @property
    def draws(self) -> tuple[str, ...]:
        """Returns the draws asked for, each once."""
        return tuple(dict.fromkeys(draw for block in self.blocks for draw in block.draws))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Returns the seeds asked for, each once."""
        return tuple(dict.fromkeys(seed for block in self.blocks for seed in block.seeds))

    def title_of(self, row: str) -> str:
        """Returns what a row is called where people read it."""
        return self.titles.get(row) or title_of(row)

    def severities_of(self, row: str) -> tuple[float, ...]:
        """Returns a row's severities besides 1, which the evaluation itself measures."""
        return tuple(value for value in self.severities if value != 1) if row in self.severity_methods else ()

    @property
    def code(self) -> tuple[str, ...]:
        """Returns each "module:name" that the jobs import: methods and predictors of the user's own."""
        rows = [settings_of(self, row, seed=0) for row in self.rows if row != POST_DAE]
        targets = [entry.target for entry in self.predictors if not Path(entry.target).exists()]
        return own_code([*(name for row in rows for name in (*row.rivals.use, row.network.kind)), *targets])

    def extended(self, *, file: Path = Path(REQUEST), trust: Iterable[str] = (), **asked: Any) -> Request:
        """Returns the request with one more block, and with what else may be added later.

        file: where it was read. trust: code in it that may be run, beside what `asked` names. asked: as for
        `ask`. A block takes what it does not say from the grid so far; predictors, severities,
        severity_methods and equal_time are added. Raises CoopsegError for any other that has changed, and for
        code that is neither trusted nor asked for.
        """
        given = read_arguments(asked)
        named = {part for row in given.get("methods", ()) for part in split_row(row)[0].split("+")}
        named |= {*trust, *(entry.target for entry in given.get("predictors", ()))}
        more = any(given.get(name) for name in ("methods", "draws", "seeds"))
        block = _take_block(given, self.rows, self.draws, self.seeds)
        changes: Json = {"blocks": tuple(dict.fromkeys((*self.blocks, block))) if more else self.blocks}
        for name in ("predictors", "severities", "severity_methods"):
            changes[name] = tuple(dict.fromkeys((*getattr(self, name), *given.pop(name, ()))))
        changes["titles"] = self.titles | given.pop("titles", {})
        changes["equal_time"] = given.pop("equal_time", False) or self.equal_time
        for name, value in given.items():  # everything in a grid is measured in the same way
            if value != (was := getattr(self, name)):
                raise CoopsegError(
                    f"cannot resume with another {name}: the benchmark began with {shorten(was)}, now given "
                    f"{shorten(value)}; leave it out, or begin another with --out"
                )
        request = build_request(self.model_dump() | changes)
        check_named(request.code, named, file=file, how="--trust ")
        return check_request(request)


def ask(**asked: Any) -> Request:
    """Makes the request of a new benchmark; checks all that can be checked without the data.

    asked: fields of `Request`, but `methods`, `draws` and `seeds` in place of blocks, methods as ROW or
    TITLE=ROW, and predictors as NAME=TARGET. What is a list may also be given as text with commas.
    Raises CoopsegError for what is wrong.
    """
    given = read_arguments(asked)
    block = _take_block(given, (), (WHOLE,), (0,))
    began = {"started": now(), "versions": versions(), "command": sys.argv}
    return check_request(build_request({"blocks": (block,), **began, **given}))


def now() -> str:
    """Returns the time, for records."""
    return time.strftime("%Y-%m-%dT%H:%M:%S")


def settings_of(request: Request, row: str, *, seed: int) -> Settings:
    """Returns the settings of a row that is trained here, or of ROW@K.

    Raises CoopsegError as `resolve_settings` does.
    """
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
    """Writes BENCH/benchmark.json."""
    write_json(bench / REQUEST, request.model_dump(mode="json"))


def read_request(bench: Path, *, trusted: Collection[str] | None = None) -> Request:
    """Reads BENCH/benchmark.json. trusted: the code that it may ask for; None if none will be imported.

    Raises CoopsegError if it is missing or cannot be understood, and for code that is not trusted.
    """
    if not (bench / REQUEST).is_file():
        raise CoopsegError(f"{bench / REQUEST}: not found; --resume takes the --out of `coopseg benchmark`")
    file = bench / REQUEST
    request = build_request(read_json(file), file=file, advice="correct it or begin anew")
    if trusted is not None:
        check_named(request.code, trusted, file=file, how="--trust ")
    return request


def build_request(values: Mapping[str, Any], *, file: Path | None = None, advice: str = "") -> Request:
    """Checks the values of every field. Raises CoopsegError with the field, and the file they are from."""
    try:
        return Request.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = listing([".".join(map(str, first["loc"]))])
        if file:
            raise CoopsegError(f"{file}: {where}: {first['msg']}; {advice}") from None
        raise CoopsegError(f"{where}: {first['msg']} (found {shorten(first['input'])})") from None


def check_request(request: Request) -> Request:
    """Returns the request; imports methods of the user's own.

    Raises CoopsegError for unknown rows, clashing names and numbers out of range.
    """
    for row in request.rows:
        if row != POST_DAE:  # of POST_DAE@K the settings are those of what it stands on
            settings = settings_of(request, row, seed=0)
            if ":" in row:  # a class of the user's: better to fail now than in every job
                make_rivals(settings.rivals)
    own = [entry.name for entry in request.predictors]
    names = [*request.rows, *own]
    twice = sorted({name for name in names if names.count(name) > 1})
    odd = [shorten(name) for name in (*own, *request.titles.values()) if not _is_name(name)]
    shown = [*names, *(request.title_of(row) for row in request.rows)]
    alike = sorted({title for title in request.titles.values() if shown.count(title) > 1})
    taken = [name for name in own if name in TITLES]
    negative = [str(value) for value in request.severities if not value >= 0]
    absent = [name for name in request.severity_methods if name not in names]
    for wrong, message in (
        (not names, "nothing to do: give --methods or --predictor"),
        (twice, f"two rows are called {listing(twice)}; give the predictor another name"),
        (odd, f"a row cannot be called {listing(odd)}: use letters, digits and - _ . +"),
        (alike, f"two rows are called {listing(alike)}; give one of them another title, as TITLE=ROW"),
        (taken, f"a predictor cannot be called {listing(taken)}, the name of a training; choose another"),
        (request.copies < 1, f"copies must be 1 or more, found {request.copies}"),
        (negative, f"severities must be 0 or more, found {listing(negative)}"),
        (
            bool(request.severities) != bool(request.severity_methods),
            "--severities and --severity-methods belong together; give both or none",
        ),
        (absent, f"--severity-methods: {listing(absent)} not in the grid; add them with --methods"),
        (
            request.equal_time and not set(MAIN_ROWS) & set(request.rows),
            f"--equal-time needs one of the rows {listing(MAIN_ROWS)}; add them with --methods",
        ),
    ):
        if wrong:
            raise CoopsegError(message)
    return request


def _is_name(name: str) -> bool:
    return all(letter.isalnum() or letter in "-_.+ " for letter in name) and not name.startswith(".")


def read_arguments(asked: Mapping[str, Any]) -> Json:
    """Turns arguments as people give them into values of a request: paths absolute, lists split at commas."""
    if unknown := [name for name in asked if name not in (*READ, *Request.model_fields)]:
        raise CoopsegError(f"a benchmark takes no {listing(unknown)}; see `coopseg benchmark --help`")
    given = {name: READ[name](value) if name in READ else value for name, value in asked.items()}
    pairs = [entry.rpartition("=")[::2] for entry in given.get("methods", ())]
    if titles := {row.strip(): title.strip() for title, row in pairs if title}:
        given["methods"], given["titles"] = tuple(row.strip() for _, row in pairs), titles
    return given


def _take_block(given: Json, rows: tuple[str, ...], draws: tuple[str, ...], seeds: tuple[int, ...]) -> Block:
    """Takes methods, draws and seeds out of `given` for a block; those that are missing are the others."""
    return Block(
        methods=given.pop("methods", ()) or rows,
        draws=given.pop("draws", ()) or draws,
        seeds=given.pop("seeds", ()) or seeds,
    )


def _absolute(entry: str | Path | None) -> str | None:
    if entry is None:
        return None
    name, folder = name_and_folder(entry)
    return (f"{name}=" if name else "") + os.path.abspath(folder)


def _existing(path: str | Path) -> str:
    return os.path.abspath(path) if os.path.exists(path) else str(path)


def _words(values: str | Iterable[object]) -> tuple[str, ...]:
    listed = values.split(",") if isinstance(values, str) else map(str, values)
    return tuple(word for value in listed if (word := value.strip()))


def _methods(values: str | Sequence[str]) -> tuple[str, ...]:
    return expand_methods(",".join(_words(values)))


def _numbers(option: str, kind: Callable[[str], float]) -> Callable[[str | Iterable[object]], Any]:
    def read(values: str | Iterable[object]) -> tuple[float, ...]:
        words = _words(values)
        try:
            return tuple(kind(word) for word in words)
        except ValueError:
            raise CoopsegError(f"{option}: {', '.join(words)!r} is no number; write it as 0,1") from None

    return read


def _predictors(texts: Iterable[str]) -> tuple[PredictorEntry, ...]:
    entries = []
    for text in texts:
        name, equals, target = (part.strip() for part in text.partition("="))
        if not (equals and name and target):
            raise CoopsegError(
                f"--predictor {shorten(text)}: write it as NAME=module:callable, NAME=FILE.onnx or NAME=RUN"
            )
        entries.append(PredictorEntry(name=name, target=_existing(target)))
    return tuple(entries)


# how each argument is read that may be given otherwise than a request holds it
READ: dict[str, Callable[[Any], Any]] = {
    "data": _absolute,
    "cross": _absolute,
    "split": _existing,
    "settings": read_overrides,
    "methods": _methods,
    "draws": _words,
    "seeds": _numbers("--seeds", int),
    "severities": _numbers("--severities", float),
    "severity_methods": _methods,
    "predictors": _predictors,
}
