"""Defines the verb `coopseg benchmark`."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from coopseg.cli.console import Device, LabelNames, Layout, Precision, Set, fail, note, say
from coopseg.config.methods import PRESETS
from coopseg.errors import CoopsegError
from coopseg.text import counted

# say where a benchmark lies and how it runs; every other option is an argument of `run_benchmark`
WHERE = ("out", "workers", "scheduler", "trust", "resume", "keep", "restore")
FOLDER = "[NAME=]FOLDER"
Unset = partial(typer.Option, show_default=False)


def benchmark(
    context: typer.Context,
    data: Annotated[str | None, Unset(metavar=FOLDER, help="labelled data set to train and test on")] = None,
    out: Annotated[Path | None, Unset(help="folder to make")] = None,
    cross: Annotated[
        str | None, Unset(metavar=FOLDER, help="labelled data set of other sites, for testing only")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="how to divide the patients: random, a name such as acdc-dev, a file, or a folder of files "
            "DRAW.json"
        ),
    ] = "random",
    preset: Annotated[str, typer.Option(help=f"how much to train: {', '.join(PRESETS)}")] = "default",
    methods: Annotated[
        str,
        Unset(
            help="comma-separated rows of the table: names (`coopseg info`), module:class, or all, main or "
            "ablations; TITLE=ROW gives a row a title"
        ),
    ] = "",
    draws: Annotated[
        str,
        typer.Option(
            help="comma-separated draws of --split, e.g. A,B,C; with --split random, seeds, e.g. 0,1,2",
            show_default="the split itself",
        ),
    ] = "",
    seeds: Annotated[str, typer.Option(help="comma-separated seeds of the trainings, e.g. 0,1,2")] = "0",
    predictors: Annotated[
        list[str] | None,
        Unset(
            "--predictor",
            metavar="NAME=TARGET",
            help="a row that is only tested: module:callable, an ONNX file or a run folder; may be repeated",
        ),
    ] = None,
    equal_time: Annotated[
        bool,
        typer.Option(
            "--equal-time", help="train the main rows again, for as long as cooperative training takes"
        ),
    ] = False,
    severities: Annotated[
        str,
        Unset(help="comma-separated factors on the artefacts, e.g. 0.5,1.5, to test --severity-methods with"),
    ] = "",
    severity_methods: Annotated[
        str, Unset(help="rows to test with --severities, written as in --methods")
    ] = "",
    copies: Annotated[
        int, typer.Option(min=1, help="corrupted copies of each test volume for each artefact")
    ] = 3,
    layout: Layout = "auto",
    labels: LabelNames = None,
    spacing: Annotated[
        Literal["true", "nominal"],
        typer.Option(help="whether headers hold the true voxel spacing; nominal leaves out distances in mm"),
    ] = "true",
    settings: Set = None,
    device: Device = "auto",
    precision: Precision = "32",
    workers: Annotated[
        int, typer.Option(min=1, help="jobs to run side by side on this machine; they share its cores")
    ] = 1,
    scheduler: Annotated[
        str | None,
        Unset(
            metavar="tcp://HOST:PORT",
            help="run jobs on the workers of a dask cluster; they must see the same disk",
        ),
    ] = None,
    trust: Annotated[
        list[str] | None,
        Unset(
            metavar="MODULE:NAME",
            help="with --resume or --restore: a method or predictor of your own in the grid, whose code may "
            "be run; may be repeated",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        Unset(help="--out of an earlier benchmark to go on with, or to add methods, draws or seeds to"),
    ] = None,
    keep: Annotated[
        Path | None,
        Unset(
            help="--out of an earlier benchmark; writes the numbers of its finished jobs into this --out, "
            "small enough to commit; runs nothing"
        ),
    ] = None,
    restore: Annotated[
        Path | None,
        Unset(help="folder that --keep has written, to go on with in --out; without --data no job is run"),
    ] = None,
) -> None:
    """Train and test a grid of methods, draws of training patients and seeds, and write its table.

    OUT gets jobs/ (one folder per training, with its evaluation), corrupted/, probes/ (seconds per step) and
    table/. Finished jobs are never repeated: --resume OUT runs the others and retries failed ones. A job that
    fails is listed and the others go on; the exit code is then 1. --keep OUT --out KEPT saves the numbers of
    finished jobs, as often as you like; --restore KEPT makes a new benchmark from them.
    """
    asked = {name: value for name, value in context.params.items() if _is_asked(context, name)}
    _check(asked, out=out, resume=resume, keep=keep, restore=restore)
    if trust and resume is None and restore is None:
        raise CoopsegError("--trust goes with --resume or --restore; a new benchmark may run what it names")
    if workers > 1 and scheduler:
        raise CoopsegError("--workers is for this machine, --scheduler for others; give one of them")
    if keep is not None and out is not None:
        _keep(keep, out)
        return
    from coopseg.benchmark.run import restore_benchmark, resume_benchmark, run_benchmark

    asked |= {"workers": workers, "scheduler": scheduler, "progress": note}
    if resume is not None:
        done = resume_benchmark(resume, trust=trust or (), **asked)
    elif restore is not None:
        done = restore_benchmark(restore, out=out, trust=trust or (), **asked)  # type: ignore[arg-type]
    else:
        done = run_benchmark(out=out, **asked)  # type: ignore[arg-type]
    for name, error in done.failed.items():
        fail(CoopsegError(f"{name}: {error}"))
    finished = counted(len(done.finished), "job")
    say(f"{finished} finished, {len(done.failed)} failed; table: {done.out}/table/results.md")
    say(f"next: coopseg report {done.out} --out DIR")
    if done.failed:
        say(f"  or: coopseg benchmark --resume {done.out}")
        raise typer.Exit(1)


def _check(asked: Collection[str], *, out: Path | None, **earlier: Path | None) -> None:
    """Raises CoopsegError for options that do not go together."""
    given = {f"--{name}": folder for name, folder in earlier.items() if folder is not None}
    if len(given) > 1:
        raise CoopsegError(f"{' and '.join(given)} exclude each other; give one of them")
    if not given and (out is None or "data" not in asked):
        raise CoopsegError("benchmark needs --data and --out, or --resume with the folder of an earlier one")
    if "--resume" in given and out is not None:
        raise CoopsegError(f"--resume goes on in {given['--resume']}; leave --out away")
    if given and "--resume" not in given and out is None:
        raise CoopsegError(f"{next(iter(given))} needs --out, the folder to write")
    if "--keep" in given and asked:
        raise CoopsegError("--keep runs nothing; it takes --out and no other option")


def _keep(bench: Path, out: Path) -> None:
    from coopseg.benchmark.keep import keep_benchmark

    written = keep_benchmark(bench, out)
    say(f"{counted(len(written), 'job')} kept anew in {out}" + (f": {', '.join(written)}" if written else ""))


def _is_asked(context: typer.Context, name: str) -> bool:
    """Tells whether an option was typed that is an argument of the benchmark, whose defaults are there."""
    source = context.get_parameter_source(name)
    return name not in WHERE and source is not None and source.name == "COMMANDLINE"
