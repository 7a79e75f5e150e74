"""What a job does: train, then evaluate; whatever is there already is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from coopseg.benchmark.data import (
    data_of_test,
    find_draw,
    open_data,
    severe_data,
    split_name,
    tested_patients,
    write_draw,
)
from coopseg.benchmark.grid import EVALUATION, JOBS, SEVERITIES, TRAINING, Job
from coopseg.benchmark.probe import steps_in_equal_time
from coopseg.benchmark.records import count, follow
from coopseg.benchmark.request import Request
from coopseg.cases.splits import REQUEST, RUN
from coopseg.config.methods import split_row
from coopseg.evaluation.run import RECORD, evaluate_subject
from coopseg.evaluation.subject import Subject, load_subject, load_target
from coopseg.scans.types import Dataset
from coopseg.text import read_json
from coopseg.training.run import resume, train


def train_job(bench: Path, job: Job, request: Request) -> None:
    """From nothing, or from the checkpoint of a training that was broken off, to run.json."""
    out = job.folder(bench) / TRAINING
    if job.kind in ("predictor", "statistics") or (out / RUN).is_file():
        return
    if job.kind == "train" and (out / REQUEST).is_file():
        resume(out, report=follow())
        return
    shutil.rmtree(out, ignore_errors=True)  # of a job that was killed before anything could be kept
    if job.kind == "post-dae":
        from coopseg.rivals.post_dae import train_post_dae

        train_post_dae(bench / JOBS / job.needs[0] / TRAINING, out, report=follow())
        return
    dataset = open_data(request)
    train(
        dataset.root,
        out,
        preset=request.preset,
        method=job.row,
        split=write_draw(bench, request, job.draw, dataset),
        layout=request.layout,
        labels=request.labels,
        settings=request.settings | _steps(bench, job),
        seed=job.seed,
        device=request.device,
        precision=request.precision,
        report=follow(),
    )


def evaluate_job(bench: Path, job: Job, request: Request) -> float:
    """Evaluation and severities; the seconds of the evaluation."""
    dataset, folder = open_data(request), job.folder(bench)
    every = job.kind == "predictor"
    test = tested_patients(request, dataset) if every else find_draw(request, job.draw, dataset).test
    begun = time.monotonic()
    _evaluate(bench, job, request, data_of_test(bench, request, test), folder / EVALUATION)
    seconds = time.monotonic() - begun
    for severity in request.severities_of(job.row) if job.budget == "steps" else ():
        out = folder / SEVERITIES / f"{severity:g}"
        _evaluate(bench, job, request, severe_data(bench, severity, test), out, pictures=False)
    return seconds


def _steps(bench: Path, job: Job) -> dict[str, int]:
    """At equal time as many steps as fit; else none of its own."""
    if job.budget == "steps":
        return {}
    ordinary = read_json(bench / JOBS / job.needs[0] / TRAINING / RUN)["steps"]
    return {"training.steps": steps_in_equal_time(bench, job.row, ordinary)}


def _evaluate(
    bench: Path, job: Job, request: Request, data: Sequence[Dataset], out: Path, *, pictures: bool = True
) -> None:
    if (out / RECORD).is_file():
        return
    shutil.rmtree(out, ignore_errors=True)  # what a killed job had begun
    evaluate_subject(
        _subject(bench, job, request),
        data,
        out,
        split={"name": split_name(request, job.draw), "part": "test"},
        spacing=request.spacing,
        workers=torch.get_num_threads(),
        pictures=pictures,
        progress=count(),
    )


def _subject(bench: Path, job: Job, request: Request) -> Subject:
    if job.kind == "statistics":
        run, k = bench / JOBS / job.needs[0] / TRAINING, split_row(job.row)[1]
        return load_subject(run, device=request.device, precision=request.precision, scan_statistics=k)
    if job.kind != "predictor":
        run = job.folder(bench) / TRAINING
        return load_subject(run, device=request.device, precision=request.precision)
    target = next(entry.target for entry in request.predictors if entry.name == job.row)
    classes = open_data(request).labels.names
    return load_target(job.row, target, classes=classes, device=request.device, precision=request.precision)
