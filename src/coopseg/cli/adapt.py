"""Defines the verb `coopseg adapt`."""

from __future__ import annotations

from typing import Annotated

import typer

from coopseg.cli.console import Device, ModelPath, NewFolder, Trust, counting, say, warn
from coopseg.text import counted


def adapt(
    model: ModelPath,
    data: Annotated[
        list[str],
        typer.Option(
            metavar="PATH",
            help="scans of the new site: a file, folder or pattern, NIfTI or DICOM; may be repeated; label "
            "maps are passed over",
            show_default=False,
        ),
    ],
    out: NewFolder,
    share: Annotated[
        float | None,
        typer.Option(
            help="share of the new scans in the statistics, above 0, at most 1",
            show_default="of 0.3, 0.6 and 1 the best by the calibration, or none; without one 0.6",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=0, help="steps of training on the scans, after the statistics are refitted")
    ] = 0,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="order in which the scans are taken")] = 0,
    trust: Trust = None,
) -> None:
    """Fit a trained model to scans of another site, without labels, as a new model in OUT.

    The statistics by which the encoder normalises become a mixture of those of the training and of the new
    scans, with the share of which the model's calibration expects the highest Dice on the new scans, or none.
    With --steps the fast-thinking network is then trained on them: masked codes shall give the label maps
    that whole codes gave. Where the scans of the training are still there, the Dice of its validation
    patients is measured before and after.
    """
    from coopseg.training.adapt import adapt as adapt_model
    from coopseg.training.adapt import listed

    with counting("adapting") as progress:
        found = adapt_model(
            model,
            data,
            out,
            share=share,
            steps=steps,
            device=device,
            seed=seed,
            trust=trust or (),
            progress=progress,
            warn=warn,
        )
    volumes = counted(found.volumes, "volume")
    if found.expected:
        judged = counted(found.judged, "volume")
        say(f"Dice expected of {judged}: {listed(found)}; taken: share {found.share:g}")
    if found.share or steps:
        say(f"adapted to {volumes}, share {found.share:g}, {counted(steps, 'step')}: {out}")
    else:
        say(f"nothing to gain: {out} is the model as it was")
    if found.before and found.after:
        before, after = (scores[found.head]["mean"] for scores in (found.before, found.after))
        say(f"Dice on the training's own site ({found.head}, validation): {before:.3f}, now {after:.3f}")
    say(f"next: coopseg predict --model {out} SCAN... --out DIR")
