"""Trains an FTN on scans without labels: what it makes of masked codes shall be what it makes of whole ones.

The label maps of the network as it was are the target, so that it cannot drift to one that is merely the
same everywhere. Where the model reconstructs images, it also learns to reconstruct these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from coopseg.config.settings import Settings
from coopseg.latent.masks import LatentMasks, apply_mask
from coopseg.networks.coders import scan_stem
from coopseg.networks.cooperative import Networks
from coopseg.training.losses import divergence, reconstruction

LEARNING_RATE = 1e-4


def train_unlabelled(
    networks: Networks,
    scans: Sequence[Tensor],
    settings: Settings,
    *,
    steps: int,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> None:
    """Trains the FTN in place; a step takes one scan, and the running statistics stay as they are.

    networks: in evaluation mode, in which they stay. scans: slices of one volume each, (slices, channels, H,
    W) in [0, 1]. settings: of their training. The loss is the divergence of the softmax from masked codes
    from that of the networks as they were, plus the weighted error of reconstruction (settings.losses).
    Channels are masked at random, by as much as settings.latent says: other masks would need labels.
    progress: called as (step, steps, loss).

    >>> networks = Networks(classes=3, width=2).eval()
    >>> train_unlabelled(networks, [torch.rand(3, 1, 32, 32)], Settings(), steps=1)
    """
    k, weight = settings.prediction.scan_statistics, settings.losses.reconstruction
    teacher = deepcopy(networks)
    masks = replace(LatentMasks.of(settings.latent), scheme="dropout", published_dropout=False)
    parts = [
        networks.image_encoder,
        networks.segmentation_decoder,
        *([networks.image_decoder] * (weight > 0)),
    ]
    parameters = [value.requires_grad_() for part in parts for value in part.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)

    def codes_of(model: Networks, scan: Tensor) -> Sequence[Tensor]:
        stem = model.image_encoder.stem if k is None else scan_stem(model.image_encoder.stem, k)
        return model.codes_after_stem(stem(scan))

    order: list[int] = []
    for step in range(1, steps + 1):
        order = order or torch.randperm(len(scans), generator=generator).tolist()
        scan = scans[order.pop()]
        with torch.no_grad():
            target = teacher.segmentation_decoder(*codes_of(teacher, scan)[1:])
        image_code, *read = codes_of(networks, scan)
        choices = masks.sample_levels([code.shape for code in read], generator, scan.device)
        built = masks.build_levels(choices, read, [None] * len(read))
        loss = divergence(target, networks.segmentation_decoder(*map(apply_mask, read, built)))
        if weight:
            loss = loss + weight * reconstruction(networks.image_decoder(image_code), scan)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if progress:
            progress(step, steps, float(loss.detach()))
    networks.requires_grad_(False)
