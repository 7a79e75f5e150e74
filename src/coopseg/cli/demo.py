"""Defines the verb `coopseg demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coopseg.cli.console import DemoDisplay, say_report


def demo(
    out: Annotated[Path, typer.Argument(help="folder to make")] = Path("demo"),
    seeds: Annotated[int, typer.Option(min=1, help="trainings of each method; each takes minutes")] = 1,
) -> None:
    """Show the problem and the method on made-up scans, in minutes: train, corrupt, test, report.

    It trains the standard and the cooperative method on one made-up site, and tests both on other patients of
    that site, on their corrupted copies and on three other sites. OUT gets phantom/, corrupted/, runs/ and
    report/report.html.
    """
    from coopseg.demo import run_demo

    with DemoDisplay() as display:
        page = run_demo(out, seeds=seeds, report=display)
    say_report(page)
