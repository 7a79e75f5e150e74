"""The numbers of a benchmark in a form small enough to commit: one file a finished job.

KEPT/kept.json holds what was asked for and what a step of each row costs, KEPT/jobs/NAME.json.xz the records
and scores of a job. Weights, scans, pictures and logs stay behind, as do names of machines and folders.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coopseg.benchmark.collected import METRICS
from coopseg.benchmark.grid import EVALUATION, JOB, JOBS, RESULT, SEVERITIES, TRAINING, Job, make_jobs
from coopseg.benchmark.probe import PROBES
from coopseg.benchmark.request import read_request
from coopseg.cases.splits import RUN
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import RECORD
from coopseg.scans.files import write_atomically
from coopseg.text import read_json

KEPT, PACKED, FORMAT = "kept.json", ".json.xz", 1
# After the point, of what is kept. A test by ranks tells Dice apart that differ in the sixth.
DIGITS = {"dice": 7, "hd95": 3, "assd": 3}
LEFT_OUT = ("command", "machine")  # of a record: how and where it was made
FOLDERS = re.compile(r"(?<![\w/:…])/(?:[^/\s\"':;,]+/)*(?=\w)")
GONE = "…/"  # stands for the folders of a path

Scores = dict[str, list[Any]]  # by column


def keep_benchmark(bench: Path, out: Path) -> tuple[str, ...]:
    """Keep every finished job of a benchmark folder in `out`; the ids of those that were new or have changed.

    It can be called again at any time, also while jobs run: only what is new is written. Dice is rounded to
    seven digits after the point, distances to a thousandth of a millimetre.
    Raises CoopsegError where `bench` is no benchmark, or `out` holds another one.
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
    """Where a job is kept."""
    return kept / JOBS / f"{name}{PACKED}"


def pack_job(bench: Path, job: Job) -> dict[str, Any]:
    """What is kept of a job: its job.json, result.json, run.json, and every evaluation."""
    folder = job.folder(bench)
    severities = sorted(folder.glob(f"{SEVERITIES}/*/{METRICS}"))
    run = folder / TRAINING / RUN
    return {
        "job": without_places(read_json(folder / JOB)),
        "result": without_places(read_json(folder / RESULT)),
        "run": without_places(read_json(run)) if run.is_file() else None,
        "evaluation": _pack_evaluation(folder / EVALUATION),
        "severities": {file.parent.name: _pack_evaluation(file.parent) for file in severities},
    }


def _pack_evaluation(folder: Path) -> dict[str, Any]:
    record = without_places(read_json(folder / RECORD)) | {"slices": []}
    return {"record": record, "scores": pack_scores(read_json(folder / METRICS)["rows"])}


def pack_scores(rows: Sequence[dict[str, Any]]) -> Scores:
    """The rows of a metrics.json by column, rounded; all but the seconds that a prediction took."""
    names = [name for name in rows[0] if name != "seconds"]
    return {name: [_rounded(row[name], DIGITS.get(name)) for row in rows] for name in names}


def _rounded(value: Any, digits: int | None) -> Any:
    return value if digits is None or value is None else round(value, digits)


def without_places(record: dict[str, Any]) -> dict[str, Any]:
    """A record without its command and machine, and without the folders of any path in it."""
    return {key: _without_folders(value) for key, value in record.items() if key not in LEFT_OUT}


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    return FOLDERS.sub(GONE, value) if isinstance(value, str) else value


def read_kept(kept: Path) -> dict[str, Any]:
    """The content of kept.json. Raises CoopsegError where there is none, or later code has written it."""
    if not (kept / KEPT).is_file():
        raise CoopsegError(f"{kept / KEPT}: not found; --restore takes a folder that --keep has written")
    facts: dict[str, Any] = read_json(kept / KEPT)
    if facts.get("format") != FORMAT:
        raise CoopsegError(
            f"{kept / KEPT}: has format {facts.get('format')}, known is {FORMAT}; update coopseg"
        )
    return facts


def read_job(file: Path) -> dict[str, Any]:
    """What `pack_job` gave. Raises CoopsegError for a damaged file."""
    try:
        found: dict[str, Any] = json.loads(lzma.decompress(file.read_bytes()))
        return found
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise CoopsegError(f"{file}: cannot be read ({error}); remove it, and its job is done anew") from None


def _write_job(file: Path, content: dict[str, Any]) -> bool:
    if file.is_file() and read_job(file) == content:
        return False
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    write_atomically(file, lzma.compress(text.encode(), preset=9))
    return True


def _check_same(out: Path, started: str) -> None:
    if (out / KEPT).is_file() and (other := read_kept(out)["request"]["started"]) != started:
        raise CoopsegError(
            f"{out}: keeps another benchmark, begun {other} and not {started}; choose another folder"
        )
