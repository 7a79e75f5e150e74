"""Implements `adapt`: fits a trained model to the scans of another site, of which no labels are needed."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from coopseg.cases.collect import load_cases
from coopseg.cases.prepare import Case, prepare
from coopseg.cases.splits import ADAPTED, REQUEST, RUN
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError, enough_memory, first_of
from coopseg.inference.judge import find_calibration, judge
from coopseg.inference.model import LAST, Model, choose_device, load_model, save_model
from coopseg.inference.predictor import Predictor
from coopseg.inference.sources import Sources, find_sources, read_source
from coopseg.networks.cooperative import Networks
from coopseg.scans.files import check_new, make_folder, write_json
from coopseg.scans.types import Scan
from coopseg.text import counted, merge_lines
from coopseg.training.inputs import ValidationSet, validate
from coopseg.training.log import Scores
from coopseg.training.origin import open_origin
from coopseg.training.refit import Statistics, blend_statistics, find_statistics
from coopseg.training.unlabelled import train_unlabelled
from coopseg.versions import versions

SHARE = 0.6  # of the running statistics, from the new scans; see docs/research.md
SHARES = (0.3, SHARE, 1.0)  # tried where the model can say which is best
MOST_JUDGED = 64  # volumes by which that is told
FEW = 4  # scans, below which the statistics are more of single hearts than of a scanner
MOST_LOST = 0.005  # Dice on the old site that may be lost without a word


@dataclass(frozen=True)
class Adapted:
    """Says what an adaptation did.

    out: the folder of the new model. volumes: how many it was adapted to. share: the one that was taken, 0 if
    the statistics stayed. expected: mean Dice that the model's calibration expects of the new scans, by
    share, over `judged` of the volumes; empty without a calibration. before, after: validation Dice on the
    patients of the training, as `validate` gives it; None if their scans are not at hand.
    """

    out: Path
    volumes: int
    share: float
    expected: Mapping[str, float]
    head: str
    before: Scores | None
    after: Scores | None

    @property
    def judged(self) -> int:
        """Returns of how many volumes Dice is expected: of all, or of as many as are looked at most."""
        return min(self.volumes, MOST_JUDGED)

    @property
    def gained(self) -> float | None:
        """Returns the change of the mean Dice on the training's own site, None if it is unknown."""
        if self.before is None or self.after is None:
            return None
        return self.after[self.head]["mean"] - self.before[self.head]["mean"]


def adapt(
    model: str | Path,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    share: float | None = None,
    steps: int = 0,
    device: str = "auto",
    seed: int = 0,
    trust: Collection[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Adapted:
    """Fits a model to scans of another site without their labels, and writes the new model into `out`.

    The running statistics of the image encoder become a mixture of those of the training and of the new scans
    (see `find_statistics`). Then, with `steps`, the FTN is trained on the scans so that masked codes give the
    label maps that whole ones gave (see `train_unlabelled`). The STN, which reads label maps, stays.
    model: run folder or weight file. data: scans of the new site, as `predict` takes them: files, folders,
    patterns, DICOM; label maps beside them are passed over; of a 4-D scan every phase is used. share: of the
    new scans in the statistics, in (0, 1]; None tries 0.3, 0.6 and 1, and takes the one of which the model's
    calibration expects most on the new scans; if it expects less of each, the model stays as it is. Without a
    calibration it is 0.6. steps: of training. seed: order in which volumes are taken. trust: see
    `load_model`. progress: called as (done, in all, name) while scans are read, then while steps are done.
    `out` gets last.safetensors, adapt.json and, where `model` is the folder of a training, copies of its
    request.json and run.json, so that `evaluate` and `calibrate` know its patients. A calibration is carried
    over only if nothing was changed. warn: called with each line that a user should read, one of which says
    so if the mean Dice on the training's validation patients falls by more than 0.005.
    Raises CoopsegError for an ONNX file and for networks of another kind than this package's, whose norms
    are not known, if no scan can be used, and as `load_model` does.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> sites = coopseg.write_phantom(folder / "phantom", patients=4, size=48)
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = coopseg.train(sites["acdc"], folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> adapt(run, sites["mnms"], folder / "adapted", device="cpu").volumes
    12
    """
    if share is not None and not 0 < share <= 1:
        raise CoopsegError(f"share must be above 0 and at most 1, found {share:g}")
    if steps < 0:
        raise CoopsegError(f"steps must be 0 or more, found {steps}")
    out, say = Path(out), warn or (lambda line: None)
    check_new(out)
    loaded = load_model(model, choose_device(device), trust=trust)
    networks = loaded.networks
    if not isinstance(networks, Networks):
        raise CoopsegError(
            f"{loaded.path}: adapts published networks and U-Nets of this package only; for others calibrate "
            "on labelled scans of the new site, or train on them"
        )
    sources = find_sources(data, loaded.settings)
    scans = _read(sources, loaded.settings, say, progress)
    if len(sources.found) < FEW:
        say(f"{counted(len(sources.found), 'scan')}: few to tell a scanner by; take those of ten patients")
    old = _old_site(loaded, say)
    before = validate(Predictor.from_model(loaded), old) if old else None
    asked = _Asked(share, steps, seed)
    taken, expected = _fit(loaded, networks, scans, asked, say, progress)
    predictor = Predictor.from_model(loaded)
    after = validate(predictor, old) if old else None
    adapted = Adapted(out, len(scans), taken, expected, predictor.default_head, before, after)
    for line in _remarks(adapted, calibrated=loaded.calibration is not None, steps=steps):
        say(line)
    given = [data] if isinstance(data, str | Path) else data
    _write(loaded, networks, adapted, {"data": [*map(str, given)], "steps": steps, "seed": seed})
    return adapted


@dataclass(frozen=True)
class _Asked:
    """Holds arguments of `adapt`."""

    share: float | None
    steps: int
    seed: int


def _fit(
    loaded: Model,
    networks: Networks,
    scans: Sequence[Case],
    asked: _Asked,
    say: Callable[[str], None],
    progress: Callable[[int, int, str], None] | None,
) -> tuple[float, dict[str, float]]:
    """Changes the networks; returns the share that was taken, and what Dice is expected, see `Adapted`."""
    order = torch.randperm(len(scans), generator=torch.Generator().manual_seed(asked.seed)).tolist()
    device = next(networks.buffers()).device
    at_hand = [torch.from_numpy(scans[number].image).to(device) for number in order]
    judged = [scans[number] for number in order[:MOST_JUDGED]]
    found = find_statistics(networks, at_hand, loaded.settings.prediction.scan_statistics)
    taken, expected = _choose(loaded, networks, found, asked.share, judged, say)
    blend_statistics(networks, found, taken)
    if asked.steps:
        step = (lambda done, total, loss: progress(done, total, f"loss {loss:.4f}")) if progress else None
        train_unlabelled(
            networks, at_hand, loaded.settings, steps=asked.steps, seed=asked.seed, progress=step
        )
    return taken, expected


def _read(
    sources: Sources,
    settings: Settings,
    say: Callable[[str], None],
    progress: Callable[[int, int, str], None] | None,
) -> list[Case]:
    """Prepares every volume; says what is odd, and which scans cannot be used."""
    found, warnings, failed = list[Case](), list[tuple[str, str]](), [*sources.failed]
    for number, (path, source) in enumerate(sources.found.items(), start=1):
        try:
            with enough_memory("preparing", path):
                scan, read_as = read_source(source, settings)
                cases = [prepare(frame, settings.cases) for frame in _frames(scan)]
            found += cases
            lines = (*read_as, *(line for case in cases for line in case.warnings))
            warnings += [(path.name, line) for line in lines]
        except CoopsegError as error:
            failed.append(error)
        if progress:
            progress(number, len(sources.found), path.name)
    if not found:
        raise first_of(failed)
    once = list(dict.fromkeys(warnings))  # phases of one scan say the same
    for line in (*(f"left out: {error}" for error in failed), *merge_lines(once)):
        say(line)
    return found


def _frames(scan: Scan) -> list[Scan]:
    """Returns every phase of a scan."""
    return [scan.frame(index) for index in range(scan.data.shape[3])] if scan.data.ndim == 4 else [scan]


def _choose(
    model: Model,
    networks: Networks,
    found: Statistics,
    share: float | None,
    judged: Sequence[Case],
    say: Callable[[str], None],
) -> tuple[float, dict[str, float]]:
    """Returns the share to take, and what Dice is expected of the new scans with each that was tried."""
    predictor = Predictor.from_model(model)
    calibration, why = find_calibration(model, predictor, predictor.default_head)
    if calibration is None:
        say(f"{why}; whether the new scans gain is not told")
        return (SHARE if share is None else share), {}
    expected = {"0": _expect(model, judged)}
    for tried in SHARES if share is None else (share,):
        own = deepcopy(networks)
        blend_statistics(own, found, tried)
        expected[f"{tried:g}"] = _expect(replace(model, networks=own), judged)
    best = max(expected, key=lambda each: expected[each])
    return (float(best) if share is None else share), expected


def _expect(model: Model, cases: Sequence[Case]) -> float:
    """Returns the mean Dice that the model's calibration expects of cases."""
    assert model.calibration is not None
    predictor = Predictor.from_model(model)
    each = (judge(predictor.opinions(case), model.calibration, model.names)[0].mean for case in cases)
    return sum(each) / len(cases)


def _remarks(adapted: Adapted, *, calibrated: bool, steps: int) -> Iterator[str]:
    """Yields what a user should know of the new model."""
    if adapted.expected:
        first, now = adapted.expected["0"], adapted.expected[f"{adapted.share:g}"]
        if adapted.share == 0:
            yield f"of no share more Dice is expected than of the model as it is ({listed(adapted)})"
        elif now < first:
            less = "less Dice is expected of the new scans than before"
            yield f"{less} ({listed(adapted)}): keep the old model"
        if steps:
            yield "the expected Dice is of the model before its steps: whether they helped is not told"
    if adapted.gained is not None and adapted.gained < -MOST_LOST:
        yield (
            f"the training's own site loses {-adapted.gained:.3f} of Dice (validation patients, "
            f"{adapted.head}): use the adapted model for the new site only, or a smaller share or fewer steps"
        )
    if calibrated and (adapted.share or steps):
        yield (
            "the calibration is not carried over: it holds for the model as it was; `coopseg calibrate "
            f"--model {adapted.out} --data FOLDER` makes another, best on labelled patients of the new site"
        )


def listed(adapted: Adapted) -> str:
    """Lists what was expected by each share.

    >>> listed(Adapted(Path(), 9, 0.6, {"0": 0.7, "0.6": 0.72}, "FTN", None, None))
    '0.700 as it was, 0.720 with share 0.6'
    """
    titles = {share: "as it was" if share == "0" else f"with share {share}" for share in adapted.expected}
    return ", ".join(f"{value:.3f} {titles[share]}" for share, value in adapted.expected.items())


def _old_site(loaded: Model, say: Callable[[str], None]) -> ValidationSet | None:
    """Returns the validation patients of the training, or says why they are not at hand."""
    origin = open_origin(loaded.path.parent)
    if isinstance(origin, str):
        say(f"{origin}: what the training's own site loses is not measured")
        return None
    cases = load_cases(
        origin.dataset, loaded.settings.cases, names=loaded.names, patients=origin.split.validate
    )
    return ValidationSet.from_cases(cases, origin.dataset.labels, loaded.names)


def _write(loaded: Model, networks: Networks, adapted: Adapted, asked: Mapping[str, list[str] | int]) -> None:
    """Writes the new model and what it was made from."""
    out = adapted.out
    make_folder(out, out)
    for name in (REQUEST, RUN):
        if (loaded.path.parent / name).is_file():
            shutil.copyfile(loaded.path.parent / name, out / name)
    state = networks.state_dict()
    kept = None if adapted.share or asked["steps"] else loaded.calibration
    sha256 = save_model(out / LAST, state, settings=loaded.settings, names=loaded.names, calibration=kept)
    record = {
        "model": str(loaded.path),
        "model_sha256": loaded.sha256,
        "sha256": sha256,
        **asked,
        "share": adapted.share,
        "volumes": adapted.volumes,
        "expected": adapted.expected,
        "validation": {"before": adapted.before, "after": adapted.after},
        "made": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "versions": versions(),
        "command": sys.argv,
    }
    write_json(out / ADAPTED, record)
