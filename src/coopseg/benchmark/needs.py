"""What a job has to find before it begins."""

from __future__ import annotations

from pathlib import Path

from coopseg.benchmark.grid import JOBS, RESULT, TRAINING, Job


def lacking(bench: Path, job: Job) -> str:
    """Why a job cannot be done; "" where it can.

    A job that was restored from kept numbers has no weights: no Post-DAE can stand on it, and no severity be
    added to it. It is not trained again unasked, since its scores would change.
    """
    for name in job.needs:
        if not (bench / JOBS / name / RESULT).is_file():
            return f"needs {name}, which failed"
        if job.kind == "post-dae" and not _has_weights(bench / JOBS / name):
            return f"needs the weights of {name}, which were not kept; {_anew(bench / JOBS / name)}"
    folder = job.folder(bench)
    if job.kind != "predictor" and (folder / RESULT).is_file() and not _has_weights(folder):
        return f"its weights were not kept, so that no severity can be added; {_anew(folder)}"
    return ""


def _has_weights(folder: Path) -> bool:
    return any((folder / TRAINING).glob("*.safetensors"))


def _anew(folder: Path) -> str:
    return f"remove {folder} to have it trained anew, then go on with --resume"
