"""What a job has to find before it begins."""

from __future__ import annotations

from pathlib import Path

from coopseg.benchmark.grid import JOBS, RESULT, TRAINING, Job


def lacking(bench: Path, job: Job) -> str:
    """Why a job cannot be done; "" where it can.

    A job that was restored from kept numbers has no weights: no Post-DAE can stand on it, it cannot be
    predicted with other statistics, and no severity can be added to it. It is not trained again unasked,
    since its scores would change.
    """
    for name in job.needs:
        if not (bench / JOBS / name / RESULT).is_file():
            return f"needs {name}, which failed"
    source = _source(bench, job)
    if source is None or any((source / TRAINING).glob("*.safetensors")):
        return ""
    own = source == job.folder(bench)
    what = "its weights were not kept" if own else f"needs the weights of {source.name}, which were not kept"
    return f"{what}; remove {source} to have it trained anew, then go on with --resume"


def _source(bench: Path, job: Job) -> Path | None:
    """The folder of the job whose weights this one reads, None where it reads none that were made before."""
    finished = (job.folder(bench) / RESULT).is_file()  # what is left then is severities
    if job.kind == "statistics" or (job.kind == "post-dae" and not finished):
        return bench / JOBS / job.needs[0]
    return job.folder(bench) if finished and job.kind != "predictor" else None
