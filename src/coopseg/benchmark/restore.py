"""A benchmark folder from what was kept of one: its jobs have finished there, but have no weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coopseg.benchmark.collected import METRICS
from coopseg.benchmark.data import find_draw, open_cross, open_data
from coopseg.benchmark.grid import EVALUATION, JOB, JOBS, RESULT, SEVERITIES, TRAINING
from coopseg.benchmark.kept import KEPT, PACKED, read_job, read_kept
from coopseg.benchmark.probe import probe_file
from coopseg.benchmark.records import write_json
from coopseg.benchmark.request import Request, write_request
from coopseg.cases.splits import PARTS, RUN
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import RECORD
from coopseg.scans.types import Dataset
from coopseg.text import listing

Packed = dict[str, Any]  # see `pack_job`


def kept_request(kept: Path) -> Request:
    """What the benchmark was asked for; paths in it have lost their folders."""
    try:
        return Request.model_validate(read_kept(kept)["request"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CoopsegError(f"{kept / KEPT}: {where}: {first['msg']}; update coopseg") from None


def kept_jobs(kept: Path) -> list[Packed]:
    """All jobs that were kept."""
    return [read_job(file) for file in sorted((kept / JOBS).glob(f"*{PACKED}"))]


def restore(kept: Path, bench: Path, request: Request) -> tuple[str, ...]:
    """Write a benchmark folder that asks for `request`, with all jobs and probes kept; the jobs' ids."""
    jobs = kept_jobs(kept)
    for packed in jobs:
        _restore_job(packed, bench / JOBS / packed["job"]["id"])
    for probe in read_kept(kept)["probes"]:
        write_json(probe_file(bench, probe["row"]), probe)
    write_request(bench, request)
    return tuple(packed["job"]["id"] for packed in jobs)


def _restore_job(packed: Packed, folder: Path) -> None:
    write_json(folder / JOB, packed["job"])
    if packed["run"] is not None:
        write_json(folder / TRAINING / RUN, packed["run"])
    _restore_evaluation(packed["evaluation"], folder / EVALUATION)
    for severity, evaluation in packed["severities"].items():
        _restore_evaluation(evaluation, folder / SEVERITIES / severity)
    write_json(folder / RESULT, packed["result"])


def _restore_evaluation(evaluation: Packed, folder: Path) -> None:
    scores = evaluation["scores"]
    rows = [dict(zip(scores, values, strict=True)) for values in zip(*scores.values(), strict=True)]
    write_json(folder / METRICS, {"rows": rows})
    write_json(folder / RECORD, evaluation["record"])


def check_restored(kept: Path, request: Request) -> None:
    """Raise CoopsegError unless the data at hand are those that the kept jobs were trained and tested on."""
    dataset, others = open_data(request), open_cross(request)
    for packed in kept_jobs(kept):
        if wrong := next(_mismatches(packed, request, dataset, others), None):
            raise CoopsegError(f"{kept}: {packed['job']['id']} {wrong}")


def _mismatches(
    packed: Packed, request: Request, dataset: Dataset, others: Sequence[Dataset]
) -> Iterator[str]:
    """What is otherwise, by names of data sets and patients: their scans are not compared."""
    tested = {entry["name"]: entry for entry in packed["evaluation"]["record"]["data"]}
    clean = [name for name, entry in tested.items() if entry["domain"] != "corrupted"]
    if clean != (names := [dataset.name, *(other.name for other in others)]):
        yield f"was tested on {listing(clean)}, found {listing(names)}; name them, as --data NAME=FOLDER"
        return
    for other in others:
        if set(tested[other.name]["patients"]) != set(other.patients):
            yield f"was tested on other patients of {other.name}; give --cross as it was"
    if packed["run"] is None:
        return
    draw = packed["job"]["draw"]
    split = find_draw(request, draw, dataset)
    for part in PARTS:
        if set(getattr(split, part)) != set(packed["run"]["split"][part]):
            yield f"has other {part} patients than draw {draw} now; give --data and --split as they were"
