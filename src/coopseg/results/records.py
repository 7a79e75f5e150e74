"""Reads back what trainings and evaluations have written: one schema for each file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.text import Json, listing, read_json, shorten

Whole = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]


def _known(values: Any) -> Any:
    """Leaves out settings that this version does not have."""
    fields = CaseSettings.model_fields
    return {key: values[key] for key in fields if key in values} if isinstance(values, dict) else values


Cases = Annotated[CaseSettings, BeforeValidator(_known)]


class Record(BaseModel):
    """Holds what is needed of a file that this package wrote; NaN and values of another type are refused."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class _Losses(Record):
    stn: bool


class _Settings(Record):
    method: str
    seed: int
    losses: _Losses
    cases: Cases = CaseSettings()


class _Trained(Record):
    name: str
    labels: Annotated[list[str], Field(min_length=1)]


class _Split(Record):
    name: str
    train: list[str]
    validate_: Annotated[list[str], Field(alias="validate")]
    test: list[str]


class _Best(Record):
    step: Whole
    score: float


class _Validation(Record):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, float]]

    step: Whole

    @model_validator(mode="after")
    def _has_means(self) -> Self:
        if bare := [head for head, scores in self.__pydantic_extra__.items() if "mean" not in scores]:
            raise ValueError(f"{bare[0]} has no mean")
        return self


class _Written(Record):
    """Holds what every record says of its making; what is not known is None."""

    device: str | None = None
    warnings: list[str] = []
    versions: dict[str, str] = {}
    command: list[str] = []


class RunFile(_Written):
    """Describes run.json."""

    settings: _Settings
    data: _Trained
    split: _Split
    started: str | None = None
    slices: Whole | None = None
    steps: Whole | None = None
    processes: Whole | None = None
    threads: Whole | None = None
    seconds: Amount | None = None
    seconds_per_step: Amount | None = None
    peak_memory_gb: Amount | None = None
    # written as {score, step, head: Dice} before each head had a best of its own
    best: dict[str, _Best | dict[str, float] | float] = {}
    validations: list[_Validation] = []


class EndedRunFile(RunFile):
    """Describes run.json where it is needed how long the training took, or how it ended."""

    steps: Annotated[int, Field(ge=1, le=2**53)]
    validations: Annotated[list[_Validation], Field(min_length=1)]


class _Source(Record):
    name: str
    layout: str
    volumes: Whole


class _Copied(Record):
    patient: str
    session: str = ""
    phase: str


class ManifestFile(Record):
    """Describes manifest.json."""

    source: _Source
    seed: int
    severity: float
    copies: Whole
    grid: Literal["scan", "published"] = "published"  # at first there was no other
    settings: Cases
    versions: dict[str, str]
    volumes: list[_Copied]


class _Model(Record):
    path: str
    names: Annotated[list[str], Field(min_length=1, max_length=256)]
    sha256: str | None = None


class _Tested(Record):
    name: str
    domain: Literal["intra", "corrupted", "other"]
    patients: list[str]
    volumes: Whole


class _Slice(Record):
    dataset: str
    case: str
    slice: Whole
    slices: Whole
    spacing: Annotated[list[Positive], Field(min_length=2, max_length=2)]


class EvaluationFile(_Written):
    """Describes evaluation.json."""

    model: _Model
    data: list[_Tested]
    slices: list[_Slice]
    precision: str | None = None
    spacing: str | None = None
    refinements: Whole | None = None
    scan_statistics: Amount | None = None


class _Row(Record):
    dataset: str
    case: str
    patient: str
    phase: str
    site: str
    copy_: Annotated[Whole, Field(alias="copy")]
    head: str
    class_: Annotated[str, Field(alias="class")]
    dice: Share
    hd95: Amount | None
    assd: Amount | None
    nsd: Share | None = None  # which an earlier version did not have
    distance: Literal["measured", "one empty", "both empty", "spacing unknown"]
    seconds: Amount | None = None


def best_of(record: Mapping[str, Any], head: str) -> tuple[float, int] | None:
    """Returns score and step of a head's best validation by run.json; None if it has none of this form."""
    best = record.get("best", {}).get(head)
    return (best["score"], best["step"]) if isinstance(best, dict) and {"score", "step"} <= {*best} else None


class MetricsFile(Record):
    """Describes metrics.json."""

    rows: Annotated[list[_Row], Field(min_length=1)]


Number = float | None


class LogLine(Record):
    """Describes a line of log.jsonl."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number | str | dict[str, Number]]

    kind: str
    step: Whole


Kind = TypeVar("Kind", bound=BaseModel)


def check_record(model: type[Kind], values: object, file: Path, advice: str) -> Kind:
    """Returns `values`, read from `file`, as a record. Raises CoopsegError with the field and the advice."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = listing([".".join(map(str, first["loc"])) or "the whole"])
        found = "" if first["type"] == "missing" else f" (found {shorten(first['input'])})"
        raise CoopsegError(f"{file}: {where}: {first['msg']}{found}; {advice}") from None


def read_record(model: type[Kind], file: Path, advice: str) -> Kind:
    """Reads a JSON file. Raises CoopsegError if it is missing, is no JSON or does not fit the model."""
    return check_record(model, _read(file, advice), file, advice)


def read_checked(model: type[BaseModel], file: Path, advice: str) -> Json:
    """Reads a JSON file as `read_record` does; returns all of it, with what the model does not describe."""
    values = _read(file, advice)
    check_record(model, values, file, advice)
    return dict(values)


def _read(file: Path, advice: str) -> Any:
    if not file.exists():
        raise CoopsegError(f"{file}: not found; {advice}")
    return read_json(file)
