"""Keeps the numbers of a benchmark in a form small enough to commit, and makes a benchmark folder of them.

KEPT/kept.json holds what was asked for and what a step of each row costs, KEPT/jobs/NAME.json.xz the records
and scores of a finished job. Weights, scans, pictures and logs stay behind, as do names of machines and
folders. In a folder that was restored these jobs have finished, but have no weights.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from coopseg.benchmark.data import Data
from coopseg.benchmark.grid import (
    EVALUATION,
    JOB,
    JOBS,
    RESULT,
    SCAN_GRID,
    SEVERITIES,
    TRAINING,
    Job,
    Result,
    make_jobs,
)
from coopseg.benchmark.probe import PROBES, Probe, probe_file
from coopseg.benchmark.request import READ, Request, build_request, read_request, write_request
from coopseg.cases.splits import PARTS, RUN
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import RECORD, name_and_folder
from coopseg.evaluation.tables import METRICS
from coopseg.results.records import (
    EvaluationFile,
    MetricsFile,
    Record,
    RunFile,
    check_record,
    read_checked,
)
from coopseg.scans.files import write_atomically, write_json
from coopseg.text import Json, listing, one_line, parse_json, read_bytes, read_json, shorten

KEPT, PACKED, FORMAT = "kept.json", ".json.xz", 1
MOST_BYTES = 2**28  # of a job that was kept, unpacked
# After the point, of what is kept. A test by ranks tells Dice apart that differ in the sixth.
DIGITS = {"dice": 7, "nsd": 7, "hd95": 3, "assd": 3}
LEFT_OUT = ("command", "machine")  # of a record: how and where it was made
FOLDERS = re.compile(r"(?<![\w/:…])/(?:[^/\s\"':;,]+/)*(?=\w)")
GONE = "…/"  # stands for the folders of a path


def keep_benchmark(bench: Path, out: Path) -> tuple[str, ...]:
    """Keeps every finished job of a benchmark folder in `out`; returns ids of those that are new or changed.

    It can be called again at any time, also while jobs run: only what is new is written. Dice is rounded to
    seven digits after the point, distances to a thousandth of a millimetre.
    Raises CoopsegError if `bench` is no benchmark or `out` holds another one.
    """
    request = read_request(bench)
    _check_same(out, request.started)
    finished = [job for job in make_jobs(request) if (job.folder(bench) / RESULT).is_file()]
    written = [job.id for job in finished if _write_job(packed_file(out, job.id), pack_job(bench, job))]
    probes = [without_places(read_json(file)) for file in sorted((bench / PROBES).glob("*.json"))]
    facts = {"format": FORMAT, "request": without_places(request.model_dump(mode="json")), "probes": probes}
    text = (json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    if not (out / KEPT).is_file() or (out / KEPT).read_bytes() != text:
        write_atomically(out / KEPT, text)
    return tuple(written)


def packed_file(kept: Path, name: str) -> Path:
    """Returns the file in which a job is kept."""
    return kept / JOBS / f"{name}{PACKED}"


def pack_job(bench: Path, job: Job) -> Json:
    """Returns what is kept of a job: its job.json, result.json, run.json, and every evaluation."""
    folder = job.folder(bench)
    severities = sorted(folder.glob(f"{SEVERITIES}/*/{METRICS}"))
    run, beside = folder / TRAINING / RUN, folder / SCAN_GRID
    packed = {
        "job": without_places(read_json(folder / JOB)),
        "result": without_places(read_json(folder / RESULT)),
        "run": without_places(read_json(run)) if run.is_file() else None,
        "evaluation": _pack_evaluation(folder / EVALUATION),
        "severities": {file.parent.name: _pack_evaluation(file.parent) for file in severities},
    }
    return packed | ({"beside": _pack_evaluation(beside)} if (beside / RECORD).is_file() else {})


def _pack_evaluation(folder: Path) -> Json:
    record = without_places(read_json(folder / RECORD)) | {"slices": []}
    return {"record": record, "scores": pack_scores(read_json(folder / METRICS)["rows"])}


def pack_scores(rows: Sequence[Json]) -> dict[str, list[Any]]:
    """Returns the rows of a metrics.json by column, rounded; all but the seconds that a prediction took."""
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "seconds"}
    for name, digits in DIGITS.items():
        known = columns.get(name)  # an earlier version has no NSD
        columns |= {name: [v if v is None else round(v, digits) for v in known]} if known else {}
    return columns


def without_places(record: Json) -> Json:
    """Returns a record without its command and machine, and without the folders of any path in it."""
    return {key: _without_folders(value) for key, value in record.items() if key not in LEFT_OUT}


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    return FOLDERS.sub(GONE, value) if isinstance(value, str) else value


class _Evaluation(Record):
    record: EvaluationFile
    scores: Annotated[dict[str, list[Any]], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        if len({len(column) for column in self.scores.values()}) > 1:
            raise ValueError("columns of scores have different lengths")
        columns = zip(*self.scores.values(), strict=True)
        MetricsFile.model_validate({"rows": [dict(zip(self.scores, row, strict=True)) for row in columns]})
        return self


class _Id(Record):
    id: str
    draw: str


class _Packed(Record):
    """Describes what `pack_job` returns."""

    job: _Id
    result: Result
    run: RunFile | None
    evaluation: _Evaluation
    severities: dict[Annotated[str, Field(pattern=r"^[0-9]+[0-9.e+-]*$")], _Evaluation]
    beside: _Evaluation | None = None


class _Format(Record):
    format: int


class _Kept(Record):
    """Describes kept.json."""

    request: Json
    probes: list[Probe]


def read_kept(kept: Path) -> Json:
    """Reads kept.json. Raises CoopsegError if it is missing, damaged or was written by later code."""
    advice = "--restore takes a folder that --keep has written"
    facts = read_checked(_Format, kept / KEPT, advice)
    if facts["format"] != FORMAT:
        raise CoopsegError(f"{kept / KEPT}: has format {facts['format']}, known is {FORMAT}; update coopseg")
    check_record(_Kept, facts, kept / KEPT, advice)
    return facts


def read_packed(file: Path) -> Json:
    """Reads what `pack_job` returned, MOST_BYTES at most. Raises CoopsegError for a damaged file."""
    advice = "remove it, and its job is done anew"
    try:
        unpacker = lzma.LZMADecompressor()
        unpacked = unpacker.decompress(read_bytes(file), MOST_BYTES)
        if not unpacker.eof:
            raise ValueError(f"cut short, or more than {MOST_BYTES} bytes when unpacked")
        found: Json = parse_json(unpacked.decode())
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise CoopsegError(f"{file}: cannot be read ({one_line(error)}); {advice}") from None
    packed = check_record(_Packed, found, file, advice)
    if f"{packed.job.id}{PACKED}" != file.name:
        raise CoopsegError(f"{file}: holds the job {shorten(packed.job.id)}; {advice}")
    return found


def _write_job(file: Path, content: Json) -> bool:
    if file.is_file() and read_packed(file) == content:
        return False
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    write_atomically(file, lzma.compress(text.encode(), preset=9))
    return True


def _check_same(out: Path, started: str) -> None:
    if (out / KEPT).is_file() and (other := read_kept(out)["request"]["started"]) != started:
        raise CoopsegError(
            f"{out}: keeps another benchmark, begun {other} and not {started}; choose another folder"
        )


def kept_request(kept: Path) -> Request:
    """Returns what the benchmark was asked for; paths in it have lost their folders."""
    return build_request(read_kept(kept)["request"], file=kept / KEPT, advice="update coopseg")


def locate(
    request: Request,
    *,
    data: str | Path,
    cross: str | Path | None = None,
    split: str | None = None,
    predictors: Iterable[str] = (),
) -> Request:
    """Returns the request of a kept benchmark with paths of this machine.

    data, cross: FOLDER or NAME=FOLDER; a data set keeps its earlier name unless it is given another.
    predictors: NAME=TARGET; known names get their targets anew, others are added. Raises CoopsegError for a
    path that is missing.
    """
    if (request.cross is None) != (cross is None):
        raise CoopsegError(f"the benchmark had {'no ' if cross else 'a '}--cross; give it as it was")
    if split is None and request.split.startswith(GONE):
        raise CoopsegError(f"the benchmark had its split in {request.split}; give it with --split")
    entries = {entry.name: entry for entry in (*request.predictors, *READ["predictors"](predictors))}
    changes = {
        "data": READ["data"](_named(data, request.data)),
        "cross": READ["cross"](_named(cross, request.cross)),
        "split": request.split if split is None else READ["split"](split),
        "predictors": tuple(entries.values()),
    }
    return build_request(request.model_dump() | changes)


def _named(entry: str | Path | None, was: str | None) -> str | None:
    """Gives a folder the name that the data set had, unless it has one of its own."""
    if entry is None or was is None:
        return None
    name, equals, _ = was.partition("=")
    return str(entry) if name_and_folder(entry)[0] or not equals else f"{name}={entry}"


def kept_jobs(kept: Path) -> list[Json]:
    """Reads all jobs that were kept."""
    return [read_packed(file) for file in sorted((kept / JOBS).glob(f"*{PACKED}"))]


def restore(kept: Path, bench: Path, request: Request) -> tuple[str, ...]:
    """Writes a benchmark folder for `request` with all kept jobs and probes; returns the jobs' ids."""
    jobs = kept_jobs(kept)
    for packed in jobs:
        _restore_job(packed, bench / JOBS / packed["job"]["id"])
    for probe in read_kept(kept)["probes"]:
        write_json(probe_file(bench, probe["row"]), probe)
    write_request(bench, request)
    return tuple(packed["job"]["id"] for packed in jobs)


def _restore_job(packed: Json, folder: Path) -> None:
    write_json(folder / JOB, packed["job"])
    if packed["run"] is not None:
        write_json(folder / TRAINING / RUN, packed["run"])
    _restore_evaluation(packed["evaluation"], folder / EVALUATION)
    for severity, evaluation in packed["severities"].items():
        _restore_evaluation(evaluation, folder / SEVERITIES / severity)
    if packed.get("beside"):
        _restore_evaluation(packed["beside"], folder / SCAN_GRID)
    write_json(folder / RESULT, packed["result"])


def _restore_evaluation(evaluation: Json, folder: Path) -> None:
    scores = evaluation["scores"]
    rows = [dict(zip(scores, values, strict=True)) for values in zip(*scores.values(), strict=True)]
    write_json(folder / METRICS, {"rows": rows})
    write_json(folder / RECORD, evaluation["record"])


def check_restored(kept: Path, data: Data) -> None:
    """Raises CoopsegError unless `data` are those that the kept jobs were trained and tested on."""
    for packed in kept_jobs(kept):
        if wrong := next(_mismatches(packed, data), None):
            raise CoopsegError(f"{kept}: {packed['job']['id']} {wrong}")


def _mismatches(packed: Json, data: Data) -> Iterator[str]:
    """Says what differs, by names of data sets and patients; their scans are not compared."""
    tested = {entry["name"]: entry for entry in packed["evaluation"]["record"]["data"]}
    clean = [name for name, entry in tested.items() if entry["domain"] != "corrupted"]
    if clean != (names := [data.own.name, *(other.name for other in data.others)]):
        yield f"was tested on {listing(clean)}, found {listing(names)}; name them, as --data NAME=FOLDER"
        return
    for other in data.others:
        if set(tested[other.name]["patients"]) != set(other.patients):
            yield f"was tested on other patients of {other.name}; give --cross as it was"
    if packed["run"] is None:
        return
    draw = packed["job"]["draw"]
    split = data.split(draw)
    for part in PARTS:
        if set(getattr(split, part)) != set(packed["run"]["split"][part]):
            yield f"has other {part} patients than draw {draw} now; give --data and --split as they were"
