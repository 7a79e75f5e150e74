"""Defines the verb `coopseg validate`."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coopseg.cli.console import SPLITS_HELP, Adapt, LabelNames, Layout, Set, asked, counting, say
from coopseg.cli.dicom import say_what_import_finds
from coopseg.text import counted

if TYPE_CHECKING:
    from coopseg.checks.rules import Finding, Report

FAULTY = 1  # exit code if an error was found
NARROW, WIDE = 80, 120  # least and greatest width of the table, in columns


def _show_rules(wanted: bool) -> None:
    if wanted:
        from coopseg.checks.rules import RULES

        rows = [(rule.severity, rule.name, [f"{rule.means}: {rule.why}", rule.do]) for rule in RULES.values()]
        say(_table(("severity", "rule", "what is found, why it matters, what to do"), rows))
        raise typer.Exit


def validate(
    data: Annotated[Path, typer.Argument(help="folder of a data set, or of DICOM", show_default=False)],
    split: Annotated[
        list[str] | None,
        typer.Option(
            help=f"check against {SPLITS_HELP}; then only its patients need labels; may be repeated",
            show_default=False,
        ),
    ] = None,
    layout: Layout = "auto",
    labels: LabelNames = None,
    preset: Annotated[str, asked("preset")] = "default",
    settings: Set = None,
    adapt: Adapt = False,
    workers: Annotated[
        int, typer.Option(min=1, help="number of processes; does not change the findings")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    rules: Annotated[
        bool, typer.Option("--rules", help="list all rules", callback=_show_rules, is_eager=True)
    ] = False,
) -> None:
    """Look for every problem of every case before a training: files, grids, labels, copies, splits.

    A broken file does not hide other problems. Training or evaluation would fail on errors, or give wrong
    results; warnings are worth a look. The exit code is 1 if there is any error. The line before the last
    says what the crop of --preset, --set and --adapt cuts, and what their intensity rule clips. --adapt takes
    the training and validation patients of --split, without it those of the random split of seed 0, as train.
    Of a folder or zip file of DICOM it says what `coopseg import` would find.
    """
    from coopseg.checks.validate import validate_dataset
    from coopseg.dicom.places import holds_dicom

    if holds_dicom(data):
        say_what_import_finds(data, as_json=as_json)
        return
    with counting("validated") as progress:
        report = validate_dataset(
            data,
            layout=layout,
            labels=labels,
            splits=split or (),
            preset=preset,
            settings=settings or (),
            adapt=adapt,
            workers=workers,
            progress=progress,
        )
    say(json.dumps(report.as_dict(), indent=1) if as_json else _listing(report))
    if report.errors:
        raise typer.Exit(FAULTY)


def _listing(report: Report) -> str:
    summary = (
        f"{counted(report.errors, 'error')}, {counted(report.warnings, 'warning')} in "
        f"{counted(report.patients, 'patient')}, {counted(report.volumes, 'volume')}"
    )
    if report.unlabelled:
        summary += f"; {counted(report.unlabelled, 'test image')} without labels, used by predict only"
    lost = "".join(f"{line}\n" for line in (report.adapted, report.crop) if line)
    if not report.findings:
        return f"{lost}nothing wrong: {summary}"
    rows = [(f.severity, f.rule, [_place(f), f"{f.found}; {f.do}"]) for f in report.findings]
    return f"{_table(('severity', 'rule', 'file, what is wrong there, what to do'), rows)}\n\n{lost}{summary}"


def _place(finding: Finding) -> str:
    file = finding.file or "the data set"
    return f"{file} ({finding.case})" if finding.case else file


def _table(head: tuple[str, str, str], rows: Sequence[tuple[str, str, list[str]]]) -> str:
    """Formats a table; the last cell of a row is a list of lines, wrapped within their column."""
    columns = max(NARROW, min(WIDE, shutil.get_terminal_size((WIDE, 0)).columns))
    first, second = (max(len(row[column]) for row in (head, *rows)) + 2 for column in (0, 1))
    lines = [f"{head[0]:{first}}{head[1]:{second}}{head[2]}"]
    for severity, rule, cell in rows:
        margin = f"{severity:{first}}{rule:{second}}"
        for text in cell:
            lines.append(
                textwrap.fill(
                    text,
                    columns,
                    initial_indent=margin,
                    subsequent_indent=" " * len(margin),
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
            margin = " " * len(margin)
    return "\n".join(lines)
