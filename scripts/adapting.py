"""Measures what adapting to scans without labels changes (`coopseg adapt`), in mean Dice of the FTN.

    python scripts/adapting.py choice --model RUN --data ACDC --split acdc-choose-A --out JSON
    python scripts/adapting.py test --model RUN --old ACDC:SPLIT --out JSON NAME=DATA[:SPLIT] ...
    python scripts/adapting.py table JSON [JSON ...]

`choice` takes the test patients of a split, corrupts them by each of the five artefacts that settings are
chosen by, adapts to each of these five as if it were a site, and predicts it, and the patients as they are.
`test` adapts to each data set and predicts it, and the old site's test patients. Of every variant it keeps
the mean Dice of each volume. `table` prints means over volumes, of several models with the standard
deviation over them; and the change against prediction without adapting, with a 95 % interval by bootstrap
over patients.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coopseg.cases.prepare import Case, prepare, restore
from coopseg.cases.splits import find_split, select_part
from coopseg.evaluation.corruptions import CHOICE_KINDS
from coopseg.inference.model import Model, load_model
from coopseg.inference.predictor import Predictor
from coopseg.measures.overlap import dice
from coopseg.networks.cooperative import Networks
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label, load_scan
from coopseg.training.calibrate import corrupted
from coopseg.training.refit import blend_statistics, find_statistics
from coopseg.training.unlabelled import train_unlabelled

BOOTSTRAPS = 2000
Variant = tuple[float, int]  # share, steps


@dataclass(frozen=True)
class Volume:
    """Holds a volume as the networks see it, and its truth in the scan's grid."""

    name: str
    patient: str
    case: Case
    target: np.ndarray


def read(model: Model, given: str) -> list[Volume]:
    """Reads the volumes of DATA, or DATA:SPLIT for the test patients of a split."""
    folder, *split = given.split(":")
    dataset = open_dataset(Path(folder))
    if split:
        dataset = select_part(dataset, find_split(split[0]), "test")
    found = []
    for ref in dataset.items:
        label = load_label(ref)
        assert label is not None
        target = labels_to_indices(label.data, dataset.labels, names=model.names, path=ref.label)
        case = prepare(load_scan(ref), model.settings.cases, normalised=ref.normalised)
        found.append(Volume(ref.id, ref.patient, case, target))
    return found


def adapted(model: Model, volumes: Sequence[Volume], variants: Sequence[Variant]) -> Iterator[Model]:
    """Yields the model adapted to volumes in each way; a share of 0 leaves it as it is."""
    assert isinstance(model.networks, Networks)
    order = torch.randperm(len(volumes), generator=torch.Generator().manual_seed(0)).tolist()
    scans = [torch.from_numpy(volumes[number].case.image) for number in order]
    statistics = find_statistics(model.networks, scans, model.settings.prediction.scan_statistics)
    for share, steps in variants:
        networks = copy.deepcopy(model.networks)
        blend_statistics(networks, statistics, share)
        if steps:
            train_unlabelled(networks, scans, model.settings, steps=steps)
        yield replace(model, networks=networks)


def scores(model: Model, volumes: Sequence[Volume], k: float | str | None = None) -> list[float]:
    """Returns the FTN's mean Dice of each volume."""
    predictor = Predictor.from_model(model, scan_statistics=k)
    classes = range(1, len(model.names))
    maps = (restore(predictor.probabilities(v.case, ["FTN"])["FTN"], v.case.record) for v in volumes)
    return [
        round(float(dice(m, v.target, classes=classes).mean()), 4) for m, v in zip(maps, volumes, strict=True)
    ]


def measure(
    model: Model, old: Sequence[Volume], sites: Sequence[tuple[str, Callable[[], list[Volume]]]],
    variants: Sequence[Variant], out: Path,
) -> None:  # fmt: skip
    """Writes the scores of every variant on every site, and on the old one after it."""
    plain = (0.0, 0)
    rows = [row("old", "off", old, scores(model, old, "off")), row("old", plain, old, scores(model, old))]
    for name, make in sites:
        volumes = make()
        rows.append(row(name, "off", volumes, scores(model, volumes, "off")))
        for variant, changed in zip(
            [plain, *variants], adapted(model, volumes, [plain, *variants]), strict=True
        ):
            rows.append(row(name, variant, volumes, scores(changed, volumes)))
            if variant != plain:
                rows.append(row(f"old after {name}", variant, old, scores(changed, old)))
        print(
            name,
            *(f"{row['variant']}: {np.mean(row['dice']):.4f}" for row in rows if row["set"].endswith(name)),
        )
        out.write_text(json.dumps(rows))


def row(name: str, variant: Variant | str, volumes: Sequence[Volume], found: list[float]) -> dict[str, Any]:
    """Returns what is kept of one variant on one set."""
    title = variant if isinstance(variant, str) else f"share {variant[0]:g}, {variant[1]} steps"
    return {"set": name, "variant": title, "patients": [v.patient for v in volumes], "dice": found}


def choice(arguments: argparse.Namespace) -> None:
    """Measures shares and steps on made-up sites."""
    model = load_model(arguments.model)
    clean = read(model, f"{arguments.data}:{arguments.split}")[: arguments.volumes]

    def made(kind: str) -> list[Volume]:
        return [replace(volume, case=corrupted(volume.case, kind, volume.name)) for volume in clean]

    sites = [(kind, lambda kind=kind: made(kind)) for kind in CHOICE_KINDS]
    measure(model, clean, sites, [(0.3, 0), (0.6, 0), (1.0, 0), (0.6, 200)], arguments.out)


def test(arguments: argparse.Namespace) -> None:
    """Measures what was chosen, on data sets."""
    model = load_model(arguments.model)
    named = [given.partition("=")[::2] for given in arguments.sites]
    sites = [(name, lambda given=given: read(model, given)) for name, given in named]
    measure(model, read(model, arguments.old), sites, [(0.6, 0), (0.6, 200)], arguments.out)


def table(arguments: argparse.Namespace) -> None:
    """Prints the means of files of several models."""
    models = [json.loads(file.read_text()) for file in arguments.files]
    rng = np.random.default_rng(0)
    print("| set | variant | Dice | change | 95 % |\n|---|---|---|---|---|")
    for rows in zip(*models, strict=True):
        name = rows[0]["set"].removeprefix("old after ")
        first = "old" if rows[0]["set"].startswith("old") else name
        plain = [
            next(r for r in model if r["set"] == first and r["variant"] == "share 0, 0 steps")
            for model in models
        ]
        means = [float(np.mean(r["dice"])) for r in rows]
        apart = np.mean([np.subtract(r["dice"], p["dice"]) for r, p in zip(rows, plain, strict=True)], axis=0)
        patients = np.array(rows[0]["patients"])
        sums = np.array([[apart[patients == p].sum(), (patients == p).sum()] for p in np.unique(patients)])
        drawn = sums[rng.integers(len(sums), size=(BOOTSTRAPS, len(sums)))].sum(1)
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
        spread = f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else ""
        print(
            f"| {rows[0]['set']} | {rows[0]['variant']} | {np.mean(means):.3f}{spread} | {apart.mean():+.3f} "
            f"| [{low:+.3f}, {high:+.3f}] |"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("choice")
    one.add_argument("--data", required=True)
    one.add_argument("--split", required=True)
    one.add_argument("--volumes", type=int, default=None)
    one.set_defaults(run=choice)
    two = verbs.add_parser("test")
    two.add_argument("--old", required=True)
    two.add_argument("sites", nargs="+")
    two.set_defaults(run=test)
    for verb in (one, two):
        verb.add_argument("--model", required=True)
        verb.add_argument("--out", type=Path, required=True)
    three = verbs.add_parser("table")
    three.add_argument("files", nargs="+", type=Path)
    three.set_defaults(run=table)
    given = parser.parse_args()
    given.run(given)
