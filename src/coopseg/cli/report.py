"""Defines the verb `coopseg report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coopseg.cli.console import say_report
from coopseg.errors import CoopsegError


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RUN... | BENCH",
            help="run folders, pooled if they share a NAME (by default the method); or one folder of "
            "`coopseg benchmark`",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="folder to make; for a benchmark by default BENCH/report", show_default=False),
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            help="folder of `coopseg evaluate`; may be repeated; those directly in a RUN are found anyway",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Lay trainings and their evaluations side by side on one page.

    OUT gets report.html, which opens offline, and report.json with all that it shows. An evaluation belongs
    to the run whose last weights it evaluated. A benchmark is reported whole, finished or not. The page holds
    pictures of scans: mind who may see them.
    """
    from coopseg.report.run import is_benchmark, write_benchmark_report, write_report

    if len(runs) == 1 and is_benchmark(runs[0]):
        say_report(write_benchmark_report(runs[0], out))
        return
    if out is None:
        raise CoopsegError("--out is missing: name the folder that the report is to be written into")
    say_report(write_report(list(runs), out, evaluations=evaluation or ()))
