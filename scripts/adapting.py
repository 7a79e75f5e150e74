"""Measures what adapting to scans without labels changes (`coopseg adapt`), in mean Dice of the FTN.

    python scripts/adapting.py choice --model RUN --data ACDC --split acdc-choose-A [--steps N] --out JSON
    python scripts/adapting.py test --model RUN --old ACDC:SPLIT [--copies N] --out JSON NAME=DATA[:SPLIT] ...
    python scripts/adapting.py table JSON [JSON ...]

`choice` takes the test patients of a split, corrupts them by each of the five artefacts that settings are
chosen by, adapts to each of these five as if it were a site, and predicts it, and the patients as they are.
`test` adapts to each data set and predicts it, and the old site's test patients; of corrupted copies only
those numbered up to N. Of every variant it keeps the mean Dice of each volume, and what the model's
calibration expects it to be. `table` prints means over volumes, of several models with the standard deviation
over them; the change against prediction without adapting, with a 95 % interval by bootstrap over patients;
and as "chosen" the variant of which the calibration expects most, which is what `coopseg adapt` takes.
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
from coopseg.quality.opinions import DRAWS
from coopseg.quality.signs import read_signs
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label, load_scan
from coopseg.training.calibrate import corrupted
from coopseg.training.refit import blend_statistics, find_statistics
from coopseg.training.unlabelled import train_unlabelled

BOOTSTRAPS = 2000
Variant = tuple[float, int]  # share, steps
Row = dict[str, Any]
PLAIN: Variant = (0.0, 0)
SHARES: Sequence[Variant] = (PLAIN, (0.3, 0), (0.6, 0), (1.0, 0))


@dataclass(frozen=True)
class Volume:
    """Holds a volume as the networks see it, and its truth in the scan's grid."""

    name: str
    patient: str
    case: Case
    target: np.ndarray


def read(model: Model, given: str, copies: int = 1) -> list[Volume]:
    """Reads the volumes of DATA, or DATA:SPLIT for the test patients of a split."""
    folder, *split = given.split(":")
    dataset = open_dataset(Path(folder))
    if split:
        dataset = select_part(dataset, find_split(split[0]), "test")
    found = []
    for ref in dataset.items:
        if ref.copy > copies:
            continue
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


def scores(model: Model, volumes: Sequence[Volume], k: float | str | None = None) -> dict[str, list[float]]:
    """Returns the FTN's mean Dice of each volume, and what is expected if the model is calibrated."""
    predictor = Predictor.from_model(model, scan_statistics=k)
    found: dict[str, list[float]] = {"dice": [], "expected": []}
    for volume in volumes:
        judged = model.calibration if k is None else None
        opinions = predictor.opinions(volume.case, draws=DRAWS if judged else 0)
        labels = restore(opinions.probabilities["FTN"], volume.case.record)
        found["dice"].append(float(dice(labels, volume.target, classes=range(1, len(model.names))).mean()))
        if judged:
            signs = read_signs(opinions, "FTN", model.names)
            found["expected"].append(judged.expect(signs, opinions.found("FTN")).mean)
    return {key: [round(value, 4) for value in values] for key, values in found.items()}


def measure(
    model: Model,
    old: Sequence[Volume],
    sites: Sequence[tuple[str, Callable[[], list[Volume]]]],
    arguments: argparse.Namespace,
) -> None:
    """Writes the scores of every variant on every site, and on the old one after it."""
    known = replace(model, calibration=None)  # nothing is expected of the old site
    rows = [row("old", "off", old, scores(known, old, "off")), row("old", PLAIN, old, scores(known, old))]
    variants = [*SHARES, *([(0.6, arguments.steps)] if arguments.steps else [])]
    for name, make in sites:
        volumes = make()
        rows.append(row(name, "off", volumes, scores(model, volumes, "off")))
        for variant, changed in zip(variants, adapted(model, volumes, variants), strict=True):
            rows.append(row(name, variant, volumes, scores(changed, volumes)))
            if variant != PLAIN:
                forgotten = replace(changed, calibration=None)
                rows.append(row(f"old after {name}", variant, old, scores(forgotten, old)))
        print(
            name, *(f"{each['variant']}: {np.mean(each['dice']):.4f}" for each in rows if each["set"] == name)
        )
        arguments.out.write_text(json.dumps(rows))


def row(name: str, variant: Variant | str, volumes: Sequence[Volume], found: dict[str, list[float]]) -> Row:
    """Returns what is kept of one variant on one set."""
    title = variant if isinstance(variant, str) else f"share {variant[0]:g}, {variant[1]} steps"
    return {"set": name, "variant": title, "patients": [v.patient for v in volumes], **found}


def choice(arguments: argparse.Namespace) -> None:
    """Measures shares and steps on made-up sites."""
    model = load_model(arguments.model)
    clean = read(model, f"{arguments.data}:{arguments.split}")[: arguments.volumes]

    def made(kind: str) -> list[Volume]:
        return [replace(volume, case=corrupted(volume.case, kind, volume.name)) for volume in clean]

    sites = [(kind, lambda kind=kind: made(kind)) for kind in CHOICE_KINDS]
    measure(model, clean, sites, arguments)


def test(arguments: argparse.Namespace) -> None:
    """Measures what was chosen, on data sets."""
    model = load_model(arguments.model)
    named = [given.partition("=")[::2] for given in arguments.sites]
    sites = [(name, lambda given=given: read(model, given, arguments.copies)) for name, given in named]
    measure(model, read(model, arguments.old), sites, arguments)


def table(arguments: argparse.Namespace) -> None:
    """Prints the means of files of several models."""
    models = [_with_chosen(json.loads(file.read_text())) for file in arguments.files]
    rng = np.random.default_rng(0)
    print("| set | variant | Dice | change | 95 % | expected, change |\n|---|---|---|---|---|---|")
    for rows in zip(*models, strict=True):
        name, variant = rows[0]["set"], rows[0]["variant"]
        plain = [_find(model, "old" if name.startswith("old") else name, TITLE) for model in models]
        means = [float(np.mean(r["dice"])) for r in rows]
        apart = np.mean([np.subtract(r["dice"], p["dice"]) for r, p in zip(rows, plain, strict=True)], axis=0)
        patients = np.array(rows[0]["patients"])
        sums = np.array([[apart[patients == p].sum(), (patients == p).sum()] for p in np.unique(patients)])
        drawn = sums[rng.integers(len(sums), size=(BOOTSTRAPS, len(sums)))].sum(1)
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
        spread = f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else ""
        expected = [
            np.mean(r["expected"]) - np.mean(p["expected"])
            for r, p in zip(rows, plain, strict=True)
            if r["expected"] and p["expected"]
        ]
        shown = f"{np.mean(expected):+.3f}" if expected else ""
        print(
            f"| {name} | {variant} | {np.mean(means):.3f}{spread} | {apart.mean():+.3f} "
            f"| [{low:+.3f}, {high:+.3f}] | {shown} |"
        )


TITLE = "share 0, 0 steps"


def _find(rows: Sequence[Row], name: str, variant: str) -> Row:
    return next(each for each in rows if (each["set"], each["variant"]) == (name, variant))


def _with_chosen(rows: list[Row]) -> list[Row]:
    """Adds, after the rows of each site, the one of which most is expected, steps left aside."""
    chosen = []
    for name in dict.fromkeys(each["set"] for each in rows if not each["set"].startswith("old")):
        shares = [
            each
            for each in rows
            if each["set"] == name and each["variant"].endswith(" 0 steps") and each["expected"]
        ]
        if shares:
            best = max(shares, key=lambda each: np.mean(each["expected"]))
            print(f"{name}: chosen {best['variant']}")
            chosen.append(best | {"variant": "chosen"})
    return [*rows, *chosen]


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
    two.add_argument("--copies", type=int, default=1)
    two.add_argument("sites", nargs="+")
    two.set_defaults(run=test)
    for verb in (one, two):
        verb.add_argument("--model", required=True)
        verb.add_argument("--out", type=Path, required=True)
        verb.add_argument("--steps", type=int, default=0, help="also measure as many steps after share 0.6")
    three = verbs.add_parser("table")
    three.add_argument("files", nargs="+", type=Path)
    three.set_defaults(run=table)
    given = parser.parse_args()
    given.run(given)
