"""Implements `adapt`: fits a trained model to the scans of another site, of which no labels are needed."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from coopseg.cases.collect import load_cases
from coopseg.cases.prepare import Case, prepare
from coopseg.cases.splits import ADAPTED, REQUEST, RUN
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError, enough_memory, first_of
from coopseg.inference.model import LAST, Model, choose_device, load_model, save_model
from coopseg.inference.predictor import Predictor
from coopseg.inference.sources import Source, Sources, find_sources, read_source
from coopseg.networks.cooperative import Networks
from coopseg.scans.files import check_new, make_folder, write_json
from coopseg.text import counted, merge_lines
from coopseg.training.inputs import ValidationSet, validate
from coopseg.training.log import Scores
from coopseg.training.origin import open_origin
from coopseg.training.refit import blend_statistics, find_statistics
from coopseg.training.unlabelled import train_unlabelled
from coopseg.versions import versions

SHARE = 0.6  # of the running statistics, from the new scans; chosen in docs/research.md
FEW = 8  # scans, below which the statistics are more of single hearts than of a scanner
MOST_LOST = 0.005  # Dice on the old site that may be lost without a word


@dataclass(frozen=True)
class Adapted:
    """Says what an adaptation did.

    out: the folder of the new model. volumes: how many it was adapted to. before, after: validation Dice on
    the patients of the training, as `validate` gives it; None if their scans are not at hand.
    """

    out: Path
    volumes: int
    head: str
    before: Scores | None
    after: Scores | None

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
    share: float = SHARE,
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
    new scans in the statistics, in (0, 1]. steps: of training. seed: order in which volumes are taken. trust:
    see `load_model`. progress: called as (done, in all, name) while scans are read, then while steps are
    done.
    `out` gets last.safetensors, adapt.json and, where `model` is the folder of a training, copies of its
    request.json and run.json, so that `evaluate` and `calibrate` know its patients. A calibration is not
    carried over. warn: called with each line that a user should read, one of which says so if the mean Dice
    on the training's validation patients falls by more than 0.005.
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
    if not 0 < share <= 1:
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
    scans = _read(find_sources(data, loaded.settings), loaded.settings, say, progress)
    if len(scans) < FEW:
        say(f"{counted(len(scans), 'volume')}: few to tell a scanner by; eight or more are better")
    old = _old_site(loaded, say)
    before = validate(Predictor.from_model(loaded), old) if old else None
    order = torch.randperm(len(scans), generator=torch.Generator().manual_seed(seed)).tolist()
    at_hand = [scans[number].to(next(networks.buffers()).device) for number in order]
    found = find_statistics(networks, at_hand, loaded.settings.prediction.scan_statistics)
    blend_statistics(networks, found, share)
    if steps:
        step = (lambda done, total, loss: progress(done, total, f"loss {loss:.4f}")) if progress else None
        train_unlabelled(networks, at_hand, loaded.settings, steps=steps, seed=seed, progress=step)
    predictor = Predictor.from_model(loaded)
    after = validate(predictor, old) if old else None
    adapted = Adapted(out, len(scans), predictor.default_head, before, after)
    if adapted.gained is not None and adapted.gained < -MOST_LOST:
        say(
            f"the training's own site loses {-adapted.gained:.3f} of Dice (validation patients, "
            f"{adapted.head}): use the adapted model for the new site only, or a smaller share than {share:g}"
        )
    if loaded.calibration:
        say(
            "the calibration is not carried over: it holds for the model as it was; `coopseg calibrate "
            f"--model {out}` makes another"
        )
    _write(loaded, networks, adapted, {"data": str(data), "share": share, "steps": steps, "seed": seed})
    return adapted


def _read(
    sources: Sources,
    settings: Settings,
    say: Callable[[str], None],
    progress: Callable[[int, int, str], None] | None,
) -> list[Tensor]:
    """Prepares every volume, (slices, channels, H, W); says what is odd, and which scans cannot be used."""
    found, warnings, failed = list[Tensor](), list[tuple[str, str]](), [*sources.failed]
    for number, (path, source) in enumerate(sources.found.items(), start=1):
        try:
            with enough_memory("preparing", path):
                for case in _prepared(source, settings):
                    found.append(torch.from_numpy(case.image))
                    warnings += [(path.name, line) for line in case.warnings]
        except CoopsegError as error:
            failed.append(error)
        if progress:
            progress(number, len(sources.found), path.name)
    if not found:
        raise first_of(failed)
    for line in (*(f"left out: {error}" for error in failed), *merge_lines(warnings)):
        say(line)
    return found


def _prepared(source: Source, settings: Settings) -> Iterator[Case]:
    scan, _ = read_source(source, settings)
    frames = [scan.frame(index) for index in range(scan.data.shape[3])] if scan.data.ndim == 4 else [scan]
    return (prepare(frame, settings.cases) for frame in frames)


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


def _write(loaded: Model, networks: Networks, adapted: Adapted, asked: Mapping[str, str | float]) -> None:
    """Writes the new model and what it was made from."""
    out = adapted.out
    make_folder(out, out)
    for name in (REQUEST, RUN):
        if (loaded.path.parent / name).is_file():
            shutil.copyfile(loaded.path.parent / name, out / name)
    state = networks.state_dict()
    sha256 = save_model(out / LAST, state, settings=loaded.settings, names=loaded.names)
    record = {
        "model": str(loaded.path),
        "model_sha256": loaded.sha256,
        "sha256": sha256,
        **asked,
        "volumes": adapted.volumes,
        "validation": {"before": adapted.before, "after": adapted.after},
        "made": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "versions": versions(),
        "command": sys.argv,
    }
    write_json(out / ADAPTED, record)
