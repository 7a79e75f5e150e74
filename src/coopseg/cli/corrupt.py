"""Defines the verb `coopseg corrupt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from coopseg.cli.console import counting, say
from coopseg.cli.options import SPLITS_HELP, LabelNames, Layout, Set
from coopseg.errors import CoopsegError


def corrupt(
    data: Annotated[Path, typer.Option(help="folder of a labelled data set", show_default=False)],
    out: Annotated[Path, typer.Option(help="folder to make", show_default=False)],
    copies: Annotated[int, typer.Option(min=1, help="copies of each volume for each kind of artefact")] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    severity: Annotated[
        float, typer.Option(min=0, help="factor on the artefacts' strength; 1: as published for test")
    ] = 1.0,
    kinds: Annotated[
        str,
        typer.Option(
            metavar="test|choice|NAME,NAME",
            help="kinds of artefacts; test: the published four; choice: five others, to choose settings by",
        ),
    ] = "test",
    patients: Annotated[
        str | None, typer.Option(help="comma-separated patients to use", show_default=False)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help=f"use only the patients in --part of {SPLITS_HELP}", show_default=False)
    ] = None,
    part: Annotated[
        Literal["train", "validate", "test"], typer.Option(help="part of --split to use")
    ] = "test",
    layout: Layout = "auto",
    labels: LabelNames = None,
    settings: Set = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="number of processes; does not change the files", show_default="one per core"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier output")] = False,
) -> None:
    """Write copies of a data set with MR artefacts, to test how robust a model is.

    OUT gets one data set for each kind of artefact, on the published grid (192 x 192 pixels of 1.36719 mm;
    change it with --set cases.KEY=VALUE), and manifest.json. `coopseg evaluate --data OUT` takes all of them.
    """
    wrong = [text for text in settings or () if not text.strip().startswith("cases.")]
    if wrong:
        raise CoopsegError(f"--set {wrong[0]}: only settings of cases matter here; leave it out")
    if patients and split:
        raise CoopsegError("--patients and --split both choose patients; give one of them")

    from coopseg.cases.splits import find_split, select_part, select_patients
    from coopseg.config.resolve import resolve_settings
    from coopseg.evaluation.corrupt import corrupt_dataset
    from coopseg.scans.labels import parse_label_names
    from coopseg.scans.layouts import open_dataset

    cases = resolve_settings(overrides=settings or ()).cases
    dataset = open_dataset(data, layout=layout, labels=parse_label_names(labels) if labels else None)
    if patients:
        dataset = select_patients(dataset, [name.strip() for name in patients.split(",")])
    if split:
        dataset = select_part(dataset, find_split(split), part)
    with counting("corrupted") as progress:
        folders = corrupt_dataset(
            dataset,
            out,
            copies=copies,
            seed=seed,
            severity=severity,
            settings=cases,
            kinds=kinds,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    volumes = len(dataset.items) * copies
    say(f"{len(folders)} data sets of {volumes} volumes in {out}: {', '.join(f.name for f in folders)}")
    say(f"next: coopseg evaluate --model RUN --data {out} --out DIR")
