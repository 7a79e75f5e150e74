"""Compares estimators of quality: how well they foretell the Dice of label maps without the truth.

    python scripts/quality.py collect --model RUN [--ensemble RUN ...] --out FOLDER NAME=DATA[:SPLIT:PART] ...
    python scripts/quality.py table --calibrate choose --out JSON FOLDER|FILE.json.xz [...]
    python scripts/quality.py choice JSON
    python scripts/quality.py cost --model RUN --training DATA NAME=DATA[:SPLIT:PART]

`collect` predicts every volume of the data sets by a trained model, and writes FOLDER/NAME.json: of each
volume the true Dice of each structure, what every estimator says, and seconds. With `+choice` after NAME each
volume is also taken with the five artefacts that settings are chosen by. `table` fits each estimator on the
set that --calibrate names, by the same rule (`fit_lines`), and prints for every other set what came of it,
with 95 % intervals by bootstrap over patients: the area under the risk-coverage curve (mean 1 - Dice of the
volumes kept, over all shares kept), Pearson's correlation of expected and true mean Dice, the mean error of a
structure's expected Dice, the area under the ROC curve for a mean Dice below 0.7, and the share of true
values within the 90 % interval, whose mean width follows; then, for several shares of bad volumes that may
go without a flag, how many did, and how many others were flagged. Each FOLDER is of one model; the numbers
are means over the models of which an estimator is known. `choice` prints, for each sign in a file of
volumes and for sums of them, how well the line foretells patients left out, in fifths. `cost` prints the
seconds that each estimator takes beside a prediction by both heads, on one thread: medians over the volumes
of a data set.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coopseg.cases.prepare import Case, prepare, restore
from coopseg.cases.splits import find_split, select_part, select_patients, split_of_run
from coopseg.evaluation.corruptions import CHOICE_KINDS
from coopseg.inference.predictor import Predictor, load_predictor
from coopseg.measures.overlap import dice
from coopseg.networks.cooperative import Networks
from coopseg.networks.fold import FoldedNetworks
from coopseg.quality.agreement import disagreement
from coopseg.quality.broken import loose_share
from coopseg.quality.calibration import BAD, MISSED, Calibration, Judged, auroc, fit_lines
from coopseg.quality.certainty import doubt_away_from_edges, expected_loss
from coopseg.quality.distance import Reference, distance, refer_to
from coopseg.quality.reconstruction import reconstruction_error
from coopseg.quality.signs import SIGNS, read_signs
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.types import Dataset, ScanRef
from coopseg.training.calibrate import CLEAN, corrupted

SETS_AT_END = "+choice"
BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Judges:
    """Holds all that says something of a label map of `predictor`.

    networks: of its model, as they were trained. plain: without scan statistics. others: further trainings.
    known: codes of the training scans. training: features and labels of these scans, at a quarter of the
    resolution, each (channels, N) and (N,).
    """

    predictor: Predictor
    networks: Networks
    names: tuple[str, ...]
    plain: Predictor
    others: tuple[Predictor, ...]
    known: Reference
    training: tuple[tuple[np.ndarray, np.ndarray], ...]


def prepare_judges(arguments: argparse.Namespace) -> Judges:
    """Loads the model, and what the estimators need of its training scans."""
    torch.set_num_threads(1)
    model, predictor = load_predictor(arguments.model)
    assert isinstance(model.networks, Networks)
    dataset = open_dataset(arguments.training)
    dataset = select_patients(dataset, split_of_run(Path(arguments.model)).train)
    codes, training = [], []
    for ref in dataset.items:
        label = load_label(ref)
        assert label is not None
        indices = labels_to_indices(label.data, dataset.labels, names=model.names, path=ref.label)
        case = prepare(load_scan(ref), predictor.settings.cases, label=indices, names=model.names)
        assert case.label is not None
        codes.append(predictor.opinions(case, draws=0).code)
        training.append(quarter(features_of(predictor, case), case.label))
    return Judges(
        predictor,
        model.networks,
        model.names,
        load_predictor(arguments.model, scan_statistics="off")[1],
        tuple(load_predictor(run, refinements=0)[1] for run in arguments.ensemble),
        refer_to(codes, []),
        tuple(training),
    )


def collect(arguments: argparse.Namespace) -> None:
    """Writes what every estimator says of every volume."""
    judges = prepare_judges(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for given in arguments.sets:
        name, dataset, kinds = _open(given)
        file = arguments.out / f"{name}.json"
        if file.exists():
            continue
        rows: list[dict[str, Any]] = []
        for number, ref in enumerate(dataset.items, start=1):
            rows += _rows(dataset, ref, kinds, judges)
            print(f"{name}: {number} of {len(dataset.items)}", flush=True)
        file.write_text(json.dumps(rows))


def _open(given: str) -> tuple[str, Dataset, Sequence[str]]:
    name, _, rest = given.partition("=")
    folder, *split = rest.split(":")
    dataset = open_dataset(Path(folder))
    if split:
        dataset = select_part(dataset, find_split(split[0]), split[1])  # type: ignore[arg-type]
    kinds = (CLEAN, *CHOICE_KINDS) if name.endswith(SETS_AT_END) else (CLEAN,)
    return name.removesuffix(SETS_AT_END), dataset, kinds


def _rows(dataset: Dataset, ref: ScanRef, kinds: Sequence[str], judges: Judges) -> Iterator[dict[str, Any]]:
    scan, label = load_scan(ref), load_label(ref)
    assert label is not None
    target = labels_to_indices(label.data, dataset.labels, names=judges.names, path=ref.label)
    clean = prepare(scan, judges.predictor.settings.cases, normalised=ref.normalised)
    for kind in kinds:
        case = clean if kind == CLEAN else corrupted(clean, kind, ref.id)
        yield {"patient": ref.patient, "kind": kind, **_row(case, target, judges)}


def _row(case: Case, target: np.ndarray, judges: Judges) -> dict[str, Any]:
    names, predictor, head = judges.names, judges.predictor, judges.predictor.default_head
    start = time.perf_counter()
    first = predictor.opinions(case, draws=0)
    restore(first.probabilities[head], case.record)
    once = time.perf_counter()
    opinions = predictor.opinions(case)
    found = restore(opinions.probabilities[head], case.record)
    own = read_signs(opinions, head, names)
    judged = time.perf_counter()
    labels, probabilities = opinions.labels(head), opinions.probabilities[head]
    entropy = -(probabilities * np.log(probabilities.clip(1e-12))).sum(0).mean() / np.log(len(names))
    apart = distance(opinions.code, judges.known.mean, judges.known.spread)
    members = [labels, *(other.opinions(case, draws=0).labels(head) for other in judges.others)]
    each = np.ones(len(names) - 1)
    plain = judges.plain.opinions(case, draws=0).labels(head)
    signs = own | {
        "mean entropy": entropy * each,
        "entropy away from edges": doubt_away_from_edges(probabilities, labels) * each,
        "latent distance": np.log(max(apart, 0.1)) * each + 3,
        "other statistics": disagreement(labels, [plain], len(names)),
        "Monte Carlo dropout": among(opinions.masked, len(names)),
        "reverse classification": _reverse(judges, case, labels),
    }
    if judges.others:
        signs[f"{len(members)} trainings"] = among(members, len(names))
    if predictor.settings.losses.reconstruction:
        signs["reconstruction"] = reconstructed(judges.networks, case) * each
    return {
        "dice": dice(found, target, classes=range(1, len(names))).tolist(),
        "found": opinions.found(head).tolist(),
        "there": np.isin(np.arange(1, len(names)), target).tolist(),
        "signs": {name: np.asarray(values, float).tolist() for name, values in signs.items()},
        "seconds": {"plain": once - start, "judged": judged - once},
    }


def cost(arguments: argparse.Namespace) -> None:
    """Prints what each estimator takes."""
    judges = prepare_judges(arguments)
    predictor, names, head = judges.predictor, judges.names, judges.predictor.default_head
    fast = load_predictor(arguments.model, refinements=0)[1]
    _, dataset, _ = _open(arguments.sets)
    seconds: dict[str, list[float]] = {}

    def timed(title: str, work: Callable[..., Any], *given: Any, **more: Any) -> Any:
        start = time.perf_counter()
        result = work(*given, **more)
        seconds.setdefault(title, []).append(time.perf_counter() - start)
        return result

    for ref in dataset.items:
        case = prepare(load_scan(ref), predictor.settings.cases, normalised=ref.normalised)
        timed("FTN alone", fast.opinions, case, draws=0)
        plain = timed("plain", predictor.opinions, case, draws=0)
        opinions = timed("with masks", predictor.opinions, case)
        labels, probabilities = plain.labels(head), plain.probabilities[head]
        timed("read", read_signs, opinions, head, names)
        timed("own doubt", expected_loss, probabilities, labels)
        timed("loose pieces", loose_share, labels, names, opinions.spacing)
        timed("entropy away from edges", doubt_away_from_edges, probabilities, labels)
        timed("other statistics", judges.plain.opinions, case, draws=0)
        timed("pairs", among, opinions.masked, len(names))
        timed("reverse", _reverse, judges, case, labels)
    found = {title: float(np.median(values)) for title, values in seconds.items()}
    masks = found["with masks"] - found["plain"]
    rows = {
        "a prediction by both heads": found["plain"],
        "coopseg": masks + found["read"],
        "own doubt": found["own doubt"],
        "masked codes": masks + found["read"] - found["own doubt"] - found["loose pieces"],
        "second opinion": found["plain"] - found["FTN alone"],
        "loose pieces": found["loose pieces"],
        "Monte Carlo dropout": masks + found["pairs"],
        "entropy away from edges": found["entropy away from edges"],
        "other statistics": found["other statistics"],
        "5 trainings": 4 * found["plain"],
        "reverse classification": found["reverse"],
    }
    print("| estimator | seconds | of a prediction |\n|---|---|---|")
    for title, value in rows.items():
        print(f"| {title} | {value:.3f} | {value / found['plain']:.2f} |")


def _reverse(judges: Judges, case: Case, labels: np.ndarray) -> np.ndarray:
    taught = quarter(features_of(judges.predictor, case), labels)
    return reversed_loss(*taught, judges.training, len(judges.names))


def among(maps: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Returns the mean disagreement of all pairs of label maps, (classes - 1,)."""
    pairs = [disagreement(one, [two], classes) for number, one in enumerate(maps) for two in maps[:number]]
    mean: np.ndarray = np.mean(pairs, axis=0)
    return mean


@torch.inference_mode()
def features_of(predictor: Predictor, case: Case) -> np.ndarray:
    """Returns the finest features that the decoder reads, (channels, slices, h, w)."""
    networks, image = predictor.networks, torch.from_numpy(case.image)
    assert isinstance(networks, FoldedNetworks)
    features = predictor.stem(image) if predictor.stem else networks.stem(image)
    parts = [networks.encoder(part)[-1] for part in features.split(4)]
    return torch.cat(parts).transpose(0, 1).numpy()


def quarter(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns features and labels at the features' resolution, (channels, N) and (N,)."""
    step = labels.shape[-1] // features.shape[-1]
    return features.reshape(len(features), -1), labels[:, step // 2 :: step, step // 2 :: step].reshape(-1)


def reversed_loss(
    features: np.ndarray, labels: np.ndarray, training: Sequence[tuple[np.ndarray, np.ndarray]], classes: int
) -> np.ndarray:
    """Returns 1 minus the best Dice of a classifier, taught by the label map, on training scans.

    Reverse classification accuracy (Valindria et al. 2017) with the nearest mean in the network's own
    features as its classifier.
    """
    present = [index for index in range(classes) if (labels == index).any()]
    means = np.stack([features[:, labels == index].mean(1) for index in present])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    found = []
    for theirs, truth in training:
        nearest = np.asarray(present, np.uint8)[(means @ theirs).argmax(0)]
        found.append(dice(nearest, truth, classes=range(1, classes)))
    best: np.ndarray = 1 - np.max(found, axis=0)
    return best


@torch.inference_mode()
def reconstructed(networks: Networks, case: Case) -> float:
    """Returns the error of the image that is decoded from the image code."""
    image = torch.from_numpy(case.image)
    made = torch.cat([networks.image_decoder(networks.encode(part)[0]) for part in image.split(4)])
    return reconstruction_error(case.image, made.numpy())


def table(arguments: argparse.Namespace) -> None:
    """Fits every estimator, prints what came of it on every set, and keeps the numbers."""
    models = [_load(file) for file in arguments.files]
    known = [set(model[arguments.calibrate][0]["signs"]) for model in models]
    names = dict.fromkeys(name for model in models for name in model[arguments.calibrate][0]["signs"])
    estimators = {"coopseg": tuple(SIGNS)} | {name: (name,) for name in names}
    sets = [name for name in models[0] if name != arguments.calibrate]
    rows = []
    for title, signs in estimators.items():
        able = [model for model, own in zip(models, known, strict=True) if own.issuperset(signs)]
        for group, members in _groups(sets).items():
            found = [_measure(model, signs, arguments.calibrate, members) for model in able]
            rows.append({"estimator": title, "set": group, "models": len(able), **_mean(found)})
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    _print_sets([row for row in rows if row["estimator"] == "coopseg"])
    _print_estimators(rows)
    print("\n| may be missed | bad ones missed | others flagged |\n|---|---|---|")
    for missed in RATES:
        each = zip(*(_flags(model, arguments.calibrate, sets, missed) for model in models), strict=True)
        cells = [f"{np.mean(own):.1%} ({', '.join(f'{one:.1%}' for one in own)})" for own in each]
        print(f"| {missed:.0%} | {' | '.join(cells)} |")


def _flags(
    model: dict[str, list[dict[str, Any]]], calibrate: str, sets: Sequence[str], missed: float
) -> tuple[float, float]:
    """Returns what shares of bad label maps are missed, and of others flagged, if `missed` is allowed."""
    judged = [one for name in sets for one in _judged(model[name])]
    calibration = _calibrate(_judged(model[calibrate]), tuple(SIGNS), missed)
    flagged = np.array([calibration.expect(one.signs, one.found).flagged for one in judged])
    bad = np.array([one.dice.mean() < BAD for one in judged])
    return float((~flagged[bad]).mean()), float(flagged[~bad].mean())


def _calibrate(known: Sequence[Judged], signs: tuple[str, ...], missed: float = MISSED) -> Calibration:
    fitted = fit_lines(known, signs, [str(number) for number in range(len(known[0].dice))], missed=missed)
    return Calibration(
        head="", source="", made="", known=(), patients=0, scan_statistics=None, refinements=0,
        bad=BAD, missed=missed, level=0.9, signs=signs, lines=fitted.lines, limit=fitted.limit,
        skill=fitted.skill,
    )  # fmt: skip


def _load(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Reads what `collect` wrote: a folder, or one file that holds its sets by name, packed by xz."""
    if path.is_dir():
        return {file.stem: json.loads(file.read_text()) for file in sorted(path.glob("*.json"))}
    with lzma.open(path, "rt") as file:
        found: dict[str, list[dict[str, Any]]] = json.load(file)
    return found


def choice(arguments: argparse.Namespace) -> None:
    """Prints how well single signs and sums of them foretell the Dice of patients left out."""
    judged = _judged(json.loads(arguments.volumes.read_text()))
    single = [(name,) for name in judged[0].signs]
    chosen = ("own doubt", "masked codes", "second opinion", "loose pieces")
    sums = [chosen[:number] for number in (2, 3, 4)]
    print("| signs | AUROC | mean error |\n|---|---|---|")
    for signs in (*single, *sums, tuple(judged[0].signs)):
        skill = fit_lines(judged, signs, [str(number) for number in range(len(judged[0].dice))]).skill
        print(f"| {' + '.join(signs)} | {skill.auroc:.3f} | {skill.error:.3f} |")


MEASURES = ("aurc", "pearson", "error", "auroc", "within", "width")
RATES = (0.05, 0.1, 0.2, 0.3)
ARTEFACTS = ("RandBias", "RandGhost", "RandMotion", "RandSpike")


def _groups(sets: Sequence[str]) -> dict[str, list[str]]:
    """Returns each set, the published artefacts as one, and all."""
    groups = {name: [name] for name in sets}
    copies = [name for name in sets if name in ARTEFACTS]
    return groups | ({"corrupted": copies} if copies else {}) | {"all": list(sets)}


def _judged(rows: Sequence[dict[str, Any]]) -> list[Judged]:
    return [
        Judged(
            row["patient"],
            {name: np.array(values) for name, values in row["signs"].items()},
            np.array(row["dice"]),
            np.array(row["found"]),
            np.array(row["there"]),
        )
        for row in rows
    ]


def _measure(
    model: dict[str, list[dict[str, Any]]], signs: tuple[str, ...], calibrate: str, members: Sequence[str]
) -> dict[str, Any]:
    judged = [one for name in members for one in _judged(model[name])]
    calibration = _calibrate(_judged(model[calibrate]), signs)
    found = [calibration.expect(one.signs, one.found) for one in judged]
    truth = np.array([one.dice for one in judged])
    expected, low, high = (
        np.array([list(of.values()) for of in each])
        for each in zip(*((one.dice, one.low or {}, one.high or {}) for one in found), strict=True)
    )
    within = (truth >= low - 1e-9) & (truth <= high + 1e-9)
    flagged, bad = np.array([one.flagged for one in found]), truth.mean(1) < BAD
    patients = np.array([one.patient for one in judged])
    places = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    rng = np.random.default_rng(0)

    def measure(chosen: np.ndarray) -> dict[str, float]:
        mean, foretold = truth[chosen].mean(1), expected[chosen].mean(1)
        area = auroc(-foretold, mean < BAD)
        return {
            "aurc": risk_coverage(1 - mean, np.argsort(-foretold, kind="stable")),
            "pearson": float(np.corrcoef(mean, foretold)[0, 1]) if foretold.std() > 0 else 0.0,
            "error": float(np.abs(truth - expected)[chosen].mean()),
            "auroc": np.nan if area is None else area,
            "within": float(within[chosen].mean()),
            "width": float((high - low)[chosen].mean()),
        }

    drawn = (rng.integers(len(places), size=len(places)) for _ in range(BOOTSTRAPS))
    draws = [measure(np.concatenate([places[index] for index in chosen])) for chosen in drawn]
    return {
        "volumes": len(truth),
        "bad": int(bad.sum()),
        "missed": int((bad & ~flagged).sum()),
        "flagged": int(flagged.sum()),
        "best_aurc": risk_coverage(1 - truth.mean(1), np.argsort(-truth.mean(1))),
        **{
            key: [value, *np.nanpercentile([draw[key] for draw in draws], [2.5, 97.5]).tolist()]
            for key, value in measure(np.arange(len(truth))).items()
        },
    }


def risk_coverage(risk: np.ndarray, order: np.ndarray) -> float:
    """Returns the mean risk of the volumes kept, averaged over all shares kept, first come first kept."""
    return float((np.cumsum(risk[order]) / np.arange(1, len(risk) + 1)).mean())


def _mean(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    counts = ("volumes", "bad", "missed", "flagged")
    return {
        **{key: round(float(np.mean([one[key] for one in found])), 1) for key in counts},
        "best_aurc": round(float(np.mean([one["best_aurc"] for one in found])), 4),
        **{key: np.mean([one[key] for one in found], axis=0).round(4).tolist() for key in MEASURES},
        "of_each_model": [{key: round(one[key][0], 4) for key in MEASURES} for one in found],
    }


def _print_sets(rows: Sequence[dict[str, Any]]) -> None:
    """Prints how good the expected Dice was on each set of data."""
    titles = ["data", "volumes, bad", "AURC (best)", "Pearson", "mean error", "AUROC, Dice < 0.7"]
    titles += ["within the 90 % interval", "bad without a flag", "others flagged"]
    print(f"| {' | '.join(titles)} |\n" + "| --- " * len(titles) + "|")
    for row in rows:
        bad, good = row["bad"], row["volumes"] - row["bad"]
        cells = [row["set"], f"{row['volumes']:g}, {bad:g}", f"{row['aurc'][0]:.3f} ({row['best_aurc']:.3f})"]
        cells += [f"{row['pearson'][0]:.3f}", *(_cell(row[key]) for key in ("error", "auroc", "within"))]
        cells += [
            f"{row['missed']:g} of {bad:g}",
            f"{row['flagged'] - bad + row['missed']:.3g} of {good:.3g}",
        ]
        print(f"| {' | '.join(cells)} |")


def _print_estimators(rows: Sequence[dict[str, Any]]) -> None:
    """Prints how good each estimator was over all volumes, and its AUROC by kind of data."""
    parts = ("ACDC", "corrupted", "RandSpike", "M&Ms")
    areas = {(row["estimator"], row["set"]): row["auroc"][0] for row in rows}
    print(
        "\n| estimator | draws | AURC | Pearson | mean error | AUROC | within | width "
        f"| AUROC: {' | '.join(parts)} |\n" + "| --- " * (8 + len(parts)) + "|"
    )
    for row in (row for row in rows if row["set"] == "all"):
        cells = [f"{row[key][0]:.3f}" for key in ("aurc", "pearson", "error")]
        cells += [_cell(row["auroc"]), *(f"{row[key][0]:.3f}" for key in ("within", "width"))]
        cells += [f"{areas.get((row['estimator'], part), np.nan):.3f}" for part in parts]
        print(f"| {row['estimator']} | {row['models']} | {' | '.join(cells)} |")


def _cell(values: Sequence[float]) -> str:
    return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("collect")
    one.add_argument("--ensemble", nargs="*", default=[])
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("sets", nargs="+")
    one.set_defaults(run=collect)
    four = verbs.add_parser("cost")
    four.add_argument("sets")
    four.set_defaults(run=cost, ensemble=[])
    for verb in (one, four):
        verb.add_argument("--model", required=True)
        verb.add_argument("--training", type=Path, required=True)
    two = verbs.add_parser("table")
    two.add_argument("--calibrate", default="choose")
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("files", nargs="+", type=Path)
    two.set_defaults(run=table)
    three = verbs.add_parser("choice")
    three.add_argument("volumes", type=Path)
    three.set_defaults(run=choice)
    given = parser.parse_args()
    given.run(given)
