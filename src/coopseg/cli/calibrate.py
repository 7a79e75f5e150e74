"""Defines the verb `coopseg calibrate`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from coopseg.cli.console import (
    SPLITS_HELP,
    Device,
    LabelNames,
    Layout,
    ModelPath,
    Part,
    Refine,
    ScanStatistics,
    Trust,
    counting,
    say,
    warn,
)
from coopseg.text import counted


def calibrate(
    model: ModelPath,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="labelled scans of patients that the model was not trained on",
            show_default="the validation patients of the training",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help=f"use only the patients in --part of {SPLITS_HELP}", show_default="all patients"),
    ] = None,
    part: Part = "test",
    layout: Layout = "auto",
    labels: LabelNames = None,
    head: Annotated[
        Literal["FTN", "FTN+STN"] | None,
        typer.Option(help="head whose label maps are judged", show_default="the model's prediction.head"),
    ] = None,
    bad: Annotated[float, typer.Option(help="mean Dice below which a label map is bad")] = 0.7,
    missed: Annotated[
        float, typer.Option(metavar="SHARE", help="share of bad label maps that may go without a flag")
    ] = 0.1,
    level: Annotated[
        float, typer.Option(metavar="SHARE", help="share of true values that the interval should hold")
    ] = 0.9,
    refine: Refine = 1,
    device: Device = "auto",
    scan_statistics: ScanStatistics = None,
    trust: Trust = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="volumes to segment at once", show_default="one per core")
    ] = None,
) -> None:
    """Fit what Dice a model's label maps are expected to have, and store it in the model's file.

    Then `coopseg predict` says of each label map what Dice is expected of each structure, with an interval,
    and flags those that a person should look at. Each volume is segmented as it is and with five artefacts:
    noise, blur, another gamma, coarser pixels, dark bands. Nine patients or more give an interval of 90 %.
    The weights stay as they are, and an earlier calibration is replaced.
    """
    from coopseg.inference.model import find_weights
    from coopseg.training.calibrate import calibrate as calibrate_model

    with counting("segmented") as progress:
        found = calibrate_model(
            model,
            data,
            split=split,
            part=part,
            layout=layout,
            labels=labels,
            head=head,
            refinements=refine,
            device=device,
            scan_statistics=scan_statistics,
            trust=trust or (),
            bad=bad,
            missed=missed,
            level=level,
            workers=workers,
            progress=progress,
            warn=warn,
        )
    skill, others = found.skill, found.skill.volumes - found.skill.bad
    say(
        f"{found.head}, {counted(found.patients, 'patient')}: {skill.volumes} label maps, {skill.bad} of "
        f"them bad (mean Dice below {bad:g})"
    )
    say(
        "tried on patients left out, a few at a time: the expected Dice of a structure is "
        f"{skill.error:.3f} off on average"
    )
    flagged = skill.bad - skill.missed
    area = "" if skill.auroc is None else f" (area under the ROC curve {skill.auroc:.3f})"
    say(
        f"flagged is what is expected below {found.limit:.2f}: {flagged} of {skill.bad} bad ones, "
        f"{skill.flagged - flagged} of {others} others{area}"
    )
    say(f"stored in {find_weights(model)}; next: coopseg predict --model {model} SCAN... --out DIR")
