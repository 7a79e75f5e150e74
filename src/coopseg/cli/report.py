"""`coopseg report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coopseg.cli.console import say_report


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RUN...",
            help="run folders; those of one NAME (the method, unless given) are pooled",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder to make", show_default=False)],
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            help="folder of `coopseg evaluate`, may be repeated; those directly in a RUN are found",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Lay trainings and their evaluations side by side on one page.

    OUT gets report.html, which opens offline, and report.json with all that it shows. An evaluation belongs
    to the run whose best weights it evaluated. The page holds pictures of scans: mind who may see them.
    """
    from coopseg.report.run import write_report

    page = write_report(list(runs), out, evaluations=evaluation or ())
    say_report(page)
