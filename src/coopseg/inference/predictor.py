"""Turns a scan into label maps in the scan's own grid, by the FTN and by FTN and STN."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coopseg.cases.prepare import Case, prepare, restore
from coopseg.config.resolve import OFF, override_scan_statistics
from coopseg.config.settings import CaseSettings, Settings
from coopseg.errors import CoopsegError
from coopseg.inference.model import Model, choose_device, choose_dtype, load_model
from coopseg.inference.onednn import pack
from coopseg.inference.onnx_networks import OnnxNetworks
from coopseg.latent.masks import apply_mask
from coopseg.networks.coders import Stem, scan_stem
from coopseg.networks.cooperative import Networks
from coopseg.networks.fold import FoldedNetworks, fold
from coopseg.networks.other import OtherNetworks
from coopseg.quality.opinions import DRAWS, MASKS, Opinions
from coopseg.scans.types import Scan
from coopseg.text import counted

HEADS = ("FTN", "FTN+STN")
SLICES_AT_ONCE = 4  # on a processor; more use the cores no better and overflow the cache
SLICES_ON_GPU = 32
KEPT_BLOCK = 31 * 2**20  # bytes; just below the largest block that glibc can learn to keep


class Predictor:
    """Applies networks to cases and scans. It leaves the networks in the mode in which it finds them.

    networks: those of a model, even while they train, folded ones or those of an ONNX file. stem: replaces
    the image encoder's stem and is given whole volumes; if settings.prediction.scan_statistics is on and
    there is none, it is made from `networks`. refinements: how often the STN is applied, each time to the
    softmax of the previous result; 0 for the FTN alone. autocast: makes the context for the wanted precision.
    path: where the networks come from, for messages.
    Raises CoopsegError for scan statistics by folded networks without a stem.

    >>> import coopseg, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = coopseg.train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> predictor = Predictor.from_model(coopseg.load_model(run))
    >>> scan = coopseg.read_image(coopseg.open_dataset(scans).items[0].image)
    >>> {head: labels.shape == scan.data.shape for head, labels in predictor(scan).items()}
    {'FTN': True, 'FTN+STN': True}
    """

    def __init__(
        self,
        networks: Networks | FoldedNetworks | OtherNetworks | OnnxNetworks,
        settings: Settings,
        *,
        stem: Stem | None = None,
        refinements: int = 1,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        path: Path | None = None,
    ) -> None:
        self.settings, self.path = settings, path
        self.networks = networks
        self.stem = stem or _scan_stem(networks, self.scan_statistics)
        self.refinements = refinements if settings.losses.stn else 0
        self.autocast = autocast

    @classmethod
    def from_model(
        cls,
        model: Model,
        *,
        refinements: int = 1,
        precision: str = "32",
        scan_statistics: float | str | None = None,
    ) -> Predictor:
        """Makes a predictor from a copy of a model's weights, laid out for speed, on the model's device.

        precision: "32" or "bf16"; an ONNX file has "32" only. scan_statistics: K or "off" in place of the
        model's prediction.scan_statistics; the stem then computes in float32 whatever the precision.
        Raises CoopsegError if the model cannot do what is asked.
        """
        dtype = choose_dtype(precision)
        settings = override_scan_statistics(model.settings, scan_statistics)
        if isinstance(model.networks, OnnxNetworks):
            _check_exported(model, settings.prediction.scan_statistics)
            predictor = cls(model.networks, settings, refinements=refinements, path=model.path)
            model.networks.check(refinements=predictor.refinements, precision=precision)
            return predictor
        # Until glibc has seen a block of this size freed, it returns freed memory to the system at once. The
        # kernel would then clear the memory of every layer's result anew, which takes a quarter of the time.
        torch.empty(KEPT_BLOCK, dtype=torch.uint8)
        device = next(model.networks.buffers()).device.type
        if isinstance(model.networks, OtherNetworks):
            autocast = partial(torch.autocast, device, dtype, enabled=dtype != torch.float32)
            return cls(model.networks, settings, refinements=refinements, autocast=autocast, path=model.path)
        stem = _scan_stem(model.networks, settings.prediction.scan_statistics)
        folded = fold(model.networks).to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        folded = pack(folded) if device == "cpu" else folded
        return cls(folded, settings, stem=stem, refinements=refinements, path=model.path)

    @property
    def device(self) -> torch.device:
        """Returns the device on which the networks compute."""
        if isinstance(self.networks, nn.Module):
            return next(self.networks.buffers()).device
        return torch.device("cpu")

    @property
    def scan_statistics(self) -> float | None:
        """Returns K of `PredictionSettings.scan_statistics`; None if only running statistics are used."""
        return self.settings.prediction.scan_statistics

    @property
    def heads(self) -> tuple[str, ...]:
        """Returns the heads that it predicts."""
        return HEADS if self.refinements else HEADS[:1]

    @property
    def default_head(self) -> str:
        """Returns the head whose label maps are written where none is named."""
        named = self.settings.prediction.head
        return named if named in self.heads else self.heads[-1]

    def probabilities(self, case: Case, heads: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Returns class probabilities of all heads, or `heads`: (classes, slices, H, W) float32, sums 1.

        Raises CoopsegError for images of another number of channels, and if they are NaN or infinite.
        """
        found = self.opinions(case, draws=0).probabilities
        return {head: found[head] for head in heads or self.heads}

    @torch.inference_mode()
    def opinions(self, case: Case, *, draws: int = DRAWS) -> Opinions:
        """Returns the probabilities of all heads, and what the FTN makes of masked codes.

        draws: how many masks are drawn, the same for every scan; codes are computed once for all. Raises
        CoopsegError as `probabilities` does.
        """
        if case.image.shape[1] != self.settings.network.channels:
            given = counted(case.image.shape[1], "channel")
            raise CoopsegError(
                f"{self.path or 'the networks'}: the image has {given}, but the model was trained on images "
                f"of {self.settings.network.channels}{named_channels(self.settings.cases)}; give all of them"
            )
        images = torch.from_numpy(case.image).to(self.device)
        at_once = SLICES_AT_ONCE if images.device.type == "cpu" else SLICES_ON_GPU
        if isinstance(self.networks, OnnxNetworks) and self.scan_statistics is not None:
            at_once = len(images)  # the stem is within the file
        if self.stem is not None:
            with self.autocast():
                images = self.stem(images)  # its statistics need every slice
        generator = torch.Generator().manual_seed(0)
        parts = [self._part(part, draws, generator) for part in images.split(at_once)]
        found = {
            head: torch.cat([part.heads[head] for part in parts]).transpose(0, 1).contiguous().cpu().numpy()
            for head in self.heads
        }
        if wrong := [head for head, values in found.items() if not np.isfinite(values).all()]:
            raise CoopsegError(
                f"{self.path or 'the networks'}: the probabilities of {wrong[0]} hold NaN or infinity; take "
                "other weights, or train again"
            )
        masked = [
            torch.cat(maps).cpu().numpy() for maps in zip(*(part.masked for part in parts), strict=True)
        ]
        code = torch.cat([part.code for part in parts]).mean(0).cpu().numpy()
        return Opinions(found, masked, code, case.record.spacing)

    def _part(self, images: Tensor, draws: int, generator: torch.Generator) -> _Part:
        """Returns what is made of images, or of the features that the stem made of them."""
        networks = self.networks
        nothing = images.new_zeros(len(images), 0)
        if isinstance(networks, OnnxNetworks):
            return _Part(networks(images, refinements=self.refinements), (), nothing)
        options: Any = {"refinements": self.refinements, "temperature": self.settings.losses.temperature}
        if not isinstance(networks, FoldedNetworks):
            apply: Callable[..., dict[str, Tensor]] = networks
            if self.stem is not None:
                assert not isinstance(networks, OtherNetworks)  # settings allow them no scan statistics
                apply = networks.after_stem
            with self.autocast():
                return _Part(_softmax(apply(images, **options)), (), nothing)
        features = images if self.stem is not None else networks.stem(images.to(networks.dtype))
        codes = networks.encoder(features.to(networks.dtype))
        heads = _softmax(networks.after_codes(codes, **options))
        masked = _decode_masked(networks, codes, draws, generator) if draws else ()
        return _Part(heads, masked, codes[0].float().mean((2, 3)))

    def labels(self, case: Case) -> dict[str, np.ndarray]:
        """Returns each head's class indices in the scan's own grid, (X, Y, Z) uint8."""
        return {head: restore(values, case.record) for head, values in self.probabilities(case).items()}

    def __call__(self, scan: Scan, normalised: bool = False) -> dict[str, np.ndarray]:
        """Prepare a 3-D scan and predict it; see `labels`."""
        return self.labels(prepare(scan, self.settings.cases, normalised=normalised))

    def frames(self, scan: Scan) -> dict[str, np.ndarray]:
        """Predicts a 3-D scan or every frame of a 4-D one, by head: (X, Y, Z) or (X, Y, Z, T) uint8."""
        if scan.data.ndim == 3:
            return self(scan)
        return stack_frames(self(scan.frame(index)) for index in range(scan.data.shape[3]))


@dataclass(frozen=True)
class _Part:
    """Holds what is made of some slices; code: (slices, channels)."""

    heads: dict[str, Tensor]
    masked: tuple[Tensor, ...]
    code: Tensor


def _decode_masked(
    networks: FoldedNetworks, codes: Sequence[Tensor], draws: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Returns the FTN's label maps from masked codes, `draws` of (slices, H, W) uint8; decoded at once."""
    drawn = []
    for _ in range(draws):
        choices = MASKS.sample_levels([code.shape for code in codes], generator, codes[0].device)
        masks = MASKS.build_levels(choices, codes, [None] * len(codes))
        drawn.append(list(map(apply_mask, codes, masks)))
    levels = (torch.cat(level) for level in zip(*drawn, strict=True))
    # max, since argmax of torch takes more than twice its time
    return networks.decoder(*levels).max(1).indices.to(torch.uint8).chunk(draws)


def _softmax(logits: dict[str, Tensor]) -> dict[str, Tensor]:
    return {head: torch.softmax(value.float(), 1) for head, value in logits.items()}


def load_predictor(
    model: str | Path,
    *,
    refinements: int = 1,
    device: str = "auto",
    precision: str = "32",
    scan_statistics: float | str | None = None,
    trust: Collection[str] = (),
) -> tuple[Model, Predictor]:
    """Loads a model from disk, ready to predict. Raises CoopsegError as `predict` does."""
    if refinements < 0:
        raise CoopsegError(f"refinements must be 0 or more, found {refinements}")
    choose_dtype(precision)
    if device == "auto" and Path(model).suffix == ".onnx":
        device = "cpu"
    loaded = load_model(model, choose_device(device), trust=trust)
    predictor = Predictor.from_model(
        loaded, refinements=refinements, precision=precision, scan_statistics=scan_statistics
    )
    return loaded, predictor


def named_channels(settings: CaseSettings) -> str:
    """Returns " (T2, ADC)", the names of a model's channels if it has several."""
    names = settings.channels or ()
    return f" ({', '.join(names)})" if len(names) > 1 else ""


def _scan_stem(
    networks: Networks | FoldedNetworks | OtherNetworks | OnnxNetworks, k: float | None
) -> Stem | None:
    if k is None or isinstance(networks, OnnxNetworks):
        return None
    if isinstance(networks, Networks):
        return scan_stem(networks.image_encoder.stem, k)
    raise CoopsegError(
        f"a folded network knows no scan statistics (K = {k:g}); give the stem, or the networks as they train"
    )


def _check_exported(model: Model, k: float | None) -> None:
    """Raise CoopsegError if an ONNX file was not exported with this K."""
    exported = model.settings.prediction.scan_statistics
    if k != exported:
        words = [f"K = {value:g}" if value is not None else OFF for value in (exported, k)]
        raise CoopsegError(
            f"{model.path}: exported with scan statistics {words[0]}, {words[1]} is asked for; leave "
            "--scan-statistics out, or export again with it"
        )


def stack_frames(frames: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins label maps of single frames along time, for each head."""
    listed = list(frames)
    return {head: np.stack([frame[head] for frame in listed], axis=-1) for head in listed[0]}
