"""Refits running statistics to scans without labels: another scanner's features have another scale.

Li et al. 2017, "Revisiting batch normalization for practical domain adaptation", replace the statistics of
every layer; Schneider et al. 2020 (NeurIPS) keep a share of the old ones, as is done here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from coopseg.networks.coders import scan_stem
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import Norm, norm_mode, norms, own_statistics

SCANS_AT_ONCE = 4  # enough that a batch shows hearts from base to apex of more than one patient

Statistics = Mapping[str, tuple[Tensor, Tensor]]  # mean and variance, (C,) each, by the layer's name


@torch.no_grad()
def find_statistics(networks: Networks, scans: Sequence[Tensor], k: float | None) -> Statistics:
    """Returns mean and variance of what each norm of the image encoder normalises, over all scans.

    scans: the slices of one volume each, (slices, channels, H, W) in [0, 1]. They pass four at a time, each
    layer normalised by these four, so that deeper layers see what they will see once the statistics are
    replaced. k: scan statistics of the first layers, as in prediction; None for none. Other networks are left
    out: the STN reads no scans, and refitting the decoder too was a little worse (docs/research.md). networks
    stay as they are, in evaluation mode.

    >>> networks = Networks(classes=3, width=2).eval()
    >>> found = find_statistics(networks, [torch.rand(3, 1, 32, 32)], None)
    >>> mean, variance = found["image_encoder.stem.norm1"]
    >>> mean.shape, bool((variance > 0).all())
    (torch.Size([2]), True)
    """
    encoder = networks.image_encoder
    stem = encoder.stem if k is None else scan_stem(encoder.stem, k)
    names = {layer: name for name, layer in networks.named_modules()}
    layers = {layer: names[layer] for layer in norms(encoder)}
    layers |= {copy: names[own] for copy, own in zip(norms(stem), norms(encoder.stem), strict=True)}
    sums = {name: _Sums() for name in layers.values()}
    with ExitStack() as undo:
        for layer, name in layers.items():
            note = partial(_note, sums[name])
            undo.callback(layer.register_forward_pre_hook(note, with_kwargs=True).remove)
        undo.callback(networks.eval)
        undo.enter_context(norm_mode(networks, record=False, learn=False))
        networks.train()
        for group in _groups(scans):
            # With scan statistics a volume is normalised by its own slices, and passes the stem alone.
            features = stem(torch.cat(group)) if k is None else torch.cat([stem(scan) for scan in group])
            networks.codes_after_stem(features)
    return {name: each.result() for name, each in sums.items()}


@torch.no_grad()
def blend_statistics(networks: Networks, found: Statistics, share: float) -> None:
    """Replaces running statistics by (1 - share) times themselves plus share times those found."""
    for name, (mean, variance) in found.items():
        layer = networks.get_submodule(name)
        assert isinstance(layer, Norm)
        layer.running_mean.lerp_(mean.to(layer.running_mean), share)
        layer.running_var.lerp_(variance.to(layer.running_var), share)


def _groups(scans: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yields the scans four at a time; the last group has up to seven, so that none is of one scan alone."""
    start = 0
    while start < len(scans):
        stop = start + SCANS_AT_ONCE
        stop = stop if len(scans) - stop >= SCANS_AT_ONCE else len(scans)
        yield list(scans[start:stop])
        start = stop


class _Sums:
    """Adds up the statistics of batches, weighted by their number of slices."""

    def __init__(self) -> None:
        self.weight = 0
        self.mean: Tensor | float = 0.0
        self.square: Tensor | float = 0.0

    def add(self, x: Tensor, offset: Tensor | None) -> None:
        """Adds a batch (B, C, H, W). offset: what the layer is told was left out of x, (C,)."""
        mean, variance = (each.double() for each in own_statistics(x, torch.float32))
        if offset is not None:
            mean = mean + offset
        self.weight += len(x)
        self.mean = self.mean + len(x) * mean
        self.square = self.square + len(x) * (variance + mean.square())

    def result(self) -> tuple[Tensor, Tensor]:
        """Returns mean and variance of all that was added."""
        assert isinstance(self.mean, Tensor)
        mean = self.mean / self.weight
        return mean, self.square / self.weight - mean.square()


def _note(sums: _Sums, layer: Norm, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
    """Notes what a norm is about to normalise."""
    sums.add(inputs[0], options.get("offset") if layer.centres else None)
