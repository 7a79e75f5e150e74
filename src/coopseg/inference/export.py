"""Exports a trained model as one ONNX file, for programs that have no PyTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from coopseg.config.resolve import override_scan_statistics
from coopseg.errors import CoopsegError
from coopseg.inference.model import load_model, write_facts
from coopseg.inference.onnx_networks import (
    FORMAT,
    INPUT,
    INSTALL,
    OUTPUTS,
    OnnxNetworks,
    seal,
    start_session,
)
from coopseg.networks.coders import ExportedStem, Stem, scan_stem
from coopseg.networks.cooperative import MULTIPLE, Networks
from coopseg.networks.fold import fold
from coopseg.networks.other import OtherNetworks
from coopseg.scans.files import write_atomically

TOLERANCE = 1e-3  # greatest difference of a probability; rounding alone makes some 1e-5
TRIED = ((1, 1), (3, 2))  # (images, factor on the height) of the batches that are compared


def export(
    model: str | Path,
    out: str | Path,
    *,
    refinements: int = 1,
    scan_statistics: float | str | None = None,
) -> Path:
    """Write a model as an ONNX file, whole or not at all; returns its path.

    model: run folder or weight file. out: FILE.onnx, must not exist. refinements: how often the STN is
    applied; 0 for the FTN alone, as for a model without STN. scan_statistics: K or "off" in place of the
    model's prediction.scan_statistics; if it is on, a batch must be all slices of one volume.
    Input "image": float32 (B, channels, H, W) in [0, 1], prepared as by `coopseg.cases.prepare`; any B, and
    any multiples of 16 for H and W. Outputs "FTN" and "FTN_STN": class probabilities (B, classes, H, W). The
    metadata of the file hold what `load_model` needs: settings, class names, refinements, SHA-256 of the
    weights.
    Raises CoopsegError for anything wrong with model or file, if the extra `onnx` is missing, and if the
    results of ONNX Runtime and PyTorch differ; nothing is written then.
    """
    out = _check_out(Path(out))
    if refinements < 0:
        raise CoopsegError(f"refinements must be 0 or more, found {refinements}")
    loaded = load_model(model)
    if isinstance(loaded.networks, OtherNetworks):
        kind = loaded.settings.network.kind
        raise CoopsegError(f"{loaded.path}: has network.kind={kind}; export its network by torch.onnx.export")
    if not isinstance(loaded.networks, Networks):
        raise CoopsegError(f"{loaded.path}: is an ONNX file already; give the run folder")
    settings = override_scan_statistics(loaded.settings, scan_statistics)
    k = settings.prediction.scan_statistics
    refinements = refinements if loaded.settings.losses.stn else 0
    metadata = {
        "format": FORMAT,
        "facts": write_facts(settings, loaded.names),
        "refinements": str(refinements),
        "weights_sha256": loaded.sha256,
    }
    heads = Heads(loaded.networks, k, refinements, settings.losses.temperature)
    size = loaded.settings.cases.size
    content = seal(_convert(heads, size, metadata))
    stem = (
        loaded.networks.image_encoder.stem if k is None else scan_stem(loaded.networks.image_encoder.stem, k)
    )
    _compare(content, stem, loaded.networks, heads, classes=len(loaded.names), out=out)
    write_atomically(out, content)
    return out


class Heads(nn.Module):
    """Maps images to the class probabilities of each head, in the order of the outputs.

    k: the value of prediction.scan_statistics. The softmax is written out: ONNX Runtime's own takes a third
    of the network's time over a few channels.
    """

    def __init__(self, networks: Networks, k: float | None, refinements: int, temperature: float) -> None:
        super().__init__()
        self.networks = fold(networks, merge=False)
        if k is None:
            self.stem: nn.Module = self.networks.stem
        else:
            self.stem = ExportedStem(networks.image_encoder.stem, k)
        self.refinements = refinements
        self.temperature = temperature
        self.channels = networks.image_encoder.stem.conv1.in_channels

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, channels, H, W) to one or two tensors (B, classes, H, W)."""
        logits = [self.networks.decoder(*self.networks.encoder(self.stem(image)))]
        for _ in range(self.refinements):
            logits.append(self.networks.refine(softmax(logits[-1] / self.temperature)))
        return tuple(softmax(values) for values in logits[:: max(self.refinements, 1)])


def softmax(logits: Tensor) -> Tensor:
    """Computes the softmax over the classes of (B, classes, H, W)."""
    odds = (logits - logits.amax(1, keepdim=True)).exp()
    return odds / odds.sum(1, keepdim=True)


def _check_out(out: Path) -> Path:
    if out.suffix != ".onnx":
        raise CoopsegError(f"{out}: --out takes the file to write, NAME.onnx")
    if out.exists():
        raise CoopsegError(f"{out}: exists already; remove it or choose another name")
    return out


def _convert(heads: Heads, size: tuple[int, int], metadata: dict[str, str]) -> bytes:
    """Returns the serialised graph; the size of every dimension but the channels is free."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise CoopsegError(f"ONNX is not installed; {INSTALL}") from None
    free = torch.export.Dim.DYNAMIC
    with _quiet():
        program = torch.onnx.export(
            heads.eval(),
            (torch.zeros(2, heads.channels, *size),),  # with one image torch would fix the batch size
            dynamo=True,
            input_names=[INPUT],
            output_names=list(OUTPUTS.values())[: 2 if heads.refinements else 1],
            dynamic_shapes=({0: free, 2: free, 3: free},),
            verbose=False,
        )
    assert program is not None  # the dynamo exporter returns one
    for node in program.model.graph:
        node.metadata_props.clear()  # its source lines, with their paths on this machine
    program.model.metadata_props.update(metadata)
    return program.model_proto.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporter says of torchvision and its own deprecations: users cannot change that."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


@torch.inference_mode()
def _compare(
    content: bytes, stem: Stem, networks: Networks, heads: Heads, *, classes: int, out: Path
) -> None:
    """Compares the file with the stem and the networks before folding, on noise of two sizes."""
    written = OnnxNetworks(start_session(content), classes=classes, refinements=heads.refinements, path=out)
    generator = torch.Generator().manual_seed(0)
    for images, factor in TRIED:
        sides = (2 * MULTIPLE * factor, 2 * MULTIPLE)
        image = torch.rand(images, heads.channels, *sides, generator=generator)
        found = written(image, refinements=heads.refinements)
        expected = networks.after_stem(
            stem(image), refinements=heads.refinements, temperature=heads.temperature
        )
        for head, logits in expected.items():
            apart = float((found[head] - logits.softmax(1)).abs().max())
            if not apart <= TOLERANCE:
                raise CoopsegError(
                    f"{out}: not written, ONNX Runtime and PyTorch differ by {apart:.2g} in probability "
                    f"({head}); take the versions of torch and onnxruntime in constraints.txt"
                )
