"""Defines the verbs that test a model: `coopseg evaluate`, `coopseg corrupt` and `coopseg report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from coopseg.cli.console import (
    SPLITS_HELP,
    Anatomy,
    Device,
    LabelNames,
    Layout,
    NewFolder,
    Part,
    Precision,
    Quality,
    Refine,
    Resume,
    ScanStatistics,
    Set,
    Trust,
    counting,
    note,
    say,
    say_report,
    tell,
    warn,
)
from coopseg.errors import CoopsegError, PartlyDone
from coopseg.text import counted

GRID_SETTINGS = {"cases.size", "cases.spacing", "cases.slice_minmax"}  # what --grid scan leaves alone


def evaluate(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]FOLDER",
            help="labelled data set, or the output of `coopseg corrupt`, which means all data sets in it; "
            "may be repeated",
            show_default=False,
        ),
    ],
    out: NewFolder,
    model: Annotated[Path | None, typer.Option(help="run folder or weight file", show_default=False)] = None,
    predictor: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="in place of --model, any model: module:callable, whose code is run, an ONNX file of "
            "`coopseg export` or a run folder, as for `coopseg benchmark`",
            show_default=False,
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="in place of --model, label maps by any program, called as the scans; --labels names their "
            "values if neither a labels.json or dataset.json there nor the data set does",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help=f"use only the patients in --part of {SPLITS_HELP}; data sets with no patient of the split "
            "stay whole",
            show_default="all patients",
        ),
    ] = None,
    part: Part = "test",
    layout: Layout = "auto",
    labels: LabelNames = None,
    spacing: Annotated[
        Literal["true", "nominal"],
        typer.Option(help="whether headers hold the true voxel spacing; nominal leaves out distances in mm"),
    ] = "true",
    tolerance: Annotated[
        float,
        typer.Option(min=0, metavar="MM", help="distance within which surfaces agree for the NSD, in mm"),
    ] = 2.0,
    refine: Refine = 1,
    device: Device = "auto",
    precision: Precision = "32",
    scan_statistics: ScanStatistics = None,
    trust: Trust = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="volumes to score at once; does not change the scores", show_default="one per core"
        ),
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures/--no-pictures", help="write pictures of three cases, and the slices for a report"
        ),
    ] = True,
    resume: Resume = False,
    anatomy: Anatomy = False,
    quality: Quality = True,
) -> None:
    """Score a model, or any model's label maps, on labelled data sets: Dice, NSD, HD95 and ASSD.

    Give one of --model, --predictor and --predictions. The heads of a model are FTN (fast-thinking network)
    and FTN+STN (corrected by the slow-thinking network). OUT gets cases.csv (every volume and class),
    metrics.json and metrics.md (means over patients; by vendor, site and phase: ED is end-diastole, ES
    end-systole), pictures/ of the worst, median and best case, slices.npz (for `coopseg report`),
    evaluation.json (model, settings, versions, warnings), and done.jsonl, which has the scores as they are
    made: after a stop --resume goes on. If the model is calibrated, quality.csv compares the Dice that was
    expected with the true one. Volumes that cannot be used are named at the end, and their number
    with the tables; the exit code is then 1. If no volume can be used, nothing is written.
    """
    from coopseg.evaluation.run import RECORD, evaluate_model
    from coopseg.evaluation.tables import compare_heads, summary_table
    from coopseg.results.remarks import remarks_on_predictor
    from coopseg.results.shown import as_text

    partly = None
    try:
        with counting("evaluated") as progress:
            found = evaluate_model(
                model,
                list(data),
                out,
                predictor=predictor,
                predictions=predictions,
                split=split,
                part=part,
                layout=layout,
                labels=labels,
                spacing=spacing,
                tolerance=tolerance,
                refinements=refine,
                device=device,
                precision=precision,
                scan_statistics=scan_statistics,
                trust=trust or (),
                workers=workers,
                pictures=pictures,
                resume=resume,
                anatomy=anatomy,
                quality=quality,
                progress=progress,
            )
    except PartlyDone as error:
        partly, found = error, error.done
    if found.note:
        note(found.note)
    tell(remarks_on_predictor(out / RECORD))
    for warning in found.warnings:
        warn(warning)
    say(as_text(summary_table(found.summaries)))
    if line := compare_heads(found.summaries):
        warn(line)
    for estimate in found.estimates:
        say(estimate.describe())
    say(f"{'tables and pictures' if pictures else 'tables'}: {out}")
    if partly:
        raise partly


def corrupt(
    data: Annotated[Path, typer.Option(help="folder of a labelled data set", show_default=False)],
    out: NewFolder,
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
    grid: Annotated[
        Literal["scan", "published"],
        typer.Option(
            help="scan: copies keep grid, header, intensities and label values, for any model; published: "
            "they are resampled, cropped and scaled to [0, 1], as in the paper"
        ),
    ] = "scan",
    patients: Annotated[
        str | None, typer.Option(help="comma-separated patients to use", show_default=False)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help=f"use only the patients in --part of {SPLITS_HELP}", show_default=False)
    ] = None,
    part: Part = "test",
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
    resume: Resume = False,
) -> None:
    """Write copies of a data set with MR artefacts, to test how robust a model is.

    OUT gets one data set for each kind of artefact and manifest.json. The copies are scans like any other,
    for whatever model; --grid published makes those of the paper, on its grid (192 x 192 pixels of 1.36719
    mm; change it with --set cases.KEY=VALUE). Artefacts scale intensities by the published rule, or by that
    of the training if --split is its run folder. `coopseg evaluate --data OUT` takes all of them.
    done.jsonl lists what is done, as it is done: after a stop --resume goes on. Volumes that cannot be used
    are named at the end; the exit code is then 1. If no volume can be used, nothing is written.
    """
    wrong = [text for text in settings or () if not text.strip().startswith("cases.")]
    if wrong:
        raise CoopsegError(f"--set {wrong[0]}: only settings of cases matter here; leave it out")
    if patients and split:
        raise CoopsegError("--patients and --split both choose patients; give one of them")

    from coopseg.cases.splits import RUN, find_split, select_part, select_patients
    from coopseg.config.resolve import resolve_settings
    from coopseg.config.settings import CaseSettings
    from coopseg.evaluation.corrupt import corrupt_dataset, intensities_of_run
    from coopseg.scans.layouts import open_dataset
    from coopseg.scans.names import nfc

    given = {text.split("=")[0].strip() for text in settings or ()}
    cases = resolve_settings(overrides=settings or ()).cases
    dataset = open_dataset(data, layout=layout, labels=labels, lost_too=True)
    if patients:
        dataset = select_patients(dataset, [nfc(name.strip()) for name in patients.split(",")])
    if split:
        dataset = select_part(dataset, find_split(split), part)
    if split and (Path(split) / RUN).is_file():
        run = intensities_of_run(Path(split))
        own = {key: value for key, value in run.items() if f"cases.{key}" not in given}
        if own != {key: cases.intensities[key] for key in own}:
            note("as the training has it: " + ", ".join(f"cases.{key}={value}" for key, value in own.items()))
        cases = CaseSettings.checked({**cases.model_dump(), **own})
    partly = None
    try:
        with counting("corrupted") as progress:
            folders = corrupt_dataset(
                dataset,
                out,
                copies=copies,
                seed=seed,
                severity=severity,
                settings=cases,
                kinds=kinds,
                grid=grid,
                workers=workers,
                overwrite=overwrite,
                resume=resume,
                progress=progress,
                warn=warn,
                note=note,
            )
    except PartlyDone as error:
        partly, folders = error, error.done
    if grid == "scan" and (unused := sorted(given & GRID_SETTINGS)):
        note(f"{', '.join(unused)}: not used, since the copies keep the scan's grid (--grid scan)")
    used = len(dataset.items) - (len(partly.failed) if partly else 0)
    sets, volumes = counted(len(folders), "data set"), counted(used * copies, "volume")
    say(f"{sets} of {volumes} in {out}: {', '.join(f.name for f in folders)}")
    say(f"next: coopseg evaluate --model RUN --data {data} --data {out} --split RUN --out DIR")
    if partly:
        raise partly


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RUN... | BENCH",
            help="run folders, pooled if they share a NAME (by default the method), and among them "
            "evaluations of --predictor and --predictions; or one folder of `coopseg benchmark`",
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
