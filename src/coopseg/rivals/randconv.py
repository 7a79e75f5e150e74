"""Implements random convolution: replaces an image's texture and keeps its shapes (Xu et al., ICLR 2021).

Each copy of the batch is convolved with its own kernel, whose size k is drawn from {1, 3, 5, 7} and whose
weights are N(0, 1 / (C k²)), and is mixed with the image: x̃ = α x + (1 - α) conv(x), α ~ U(0, 1), scaled
to [0, 1] per slice. The FTN should predict the same for all copies: the term is λ times the mean over the
copies of KL(p_k ‖ p̄), where p̄ is the mean of their softmax. Every copy has its own forward pass, and so its
own batch statistics; with the statistics of all copies together the divergence was 1.4 times as large.

The table has two rows. `RandConv` is as its authors wrote it: the first copy also goes through the ordinary
pass, with CE(p̃, y), and BatchNorm records and learns in all passes, since they are the training passes
themselves ("shared"). `RandConvSuccessor` is as MaxStyle was compared with (Chen et al. 2022): no copy has
CE, each restores the image, and BatchNorm records but does not learn ("recorded"). There λ is 10, which
outweighs CE: a network that is trained for a short time learns little, or predicts only background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.rivals import NormRule, RandConvSettings
from coopseg.training.losses import Ledger, reconstruction, rescale_slices, wide
from coopseg.training.passes import Further, Passes, fast_logits, leaf
from coopseg.training.rival import Batch, Rival, like


@dataclass(frozen=True, eq=False)
class Convolutions:
    """Holds the draws for the K copies of a batch of C channels.

    kernels: (K, C, C, k, k), where k is the largest size; smaller kernels are padded with zeros all around.
    kept: (K,) in [0, 1), the part α of the image itself.
    """

    kernels: Tensor
    kept: Tensor


class RandConv(Rival):
    """Trains with RandConv as its authors wrote it."""

    name = "randconv"
    norm: ClassVar[NormRule] = "shared"
    settings: RandConvSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Convolutions:
        """Draws the kernels and mixing factors of all copies."""
        chosen = self.settings
        return sample_convolutions(image, chosen.copies, chosen.kernels, mix=chosen.mix, generator=generator)

    def add(self, passes: Passes, batch: Batch, drawn: Convolutions, ledger: Ledger) -> None:
        """Runs the hard pass of the first copy, with the divergence between the predictions of all copies."""
        first, *others = map(rescale_slices, convolve(batch.truth.image, drawn))
        said = [fast_logits(passes.networks, copy) for copy in others]
        weight = self.settings.consistency
        apart = Further("consistency", weight, lambda p: divergence(torch.stack([p, *said])))
        self.hard_pass(passes, batch, first, ledger, further=[apart])


class RandConvSuccessor(RandConv):
    """Trains with RandConv as MaxStyle was compared with: copies give reconstruction and consistency only."""

    name = "randconv_successor"
    norm = "recorded"

    def add(self, passes: Passes, batch: Batch, drawn: Convolutions, ledger: Ledger) -> None:
        """Runs a pass for each copy; frees the graphs through one decoder before it builds the other's."""
        nets, image, losses = passes.networks, batch.truth.image, passes.settings.losses
        codes = [nets.encode(rescale_slices(copy)) for copy in convolve(image, drawn)]
        leaves = [list(map(leaf, encoded)) for encoded in codes]
        term = torch.stack([reconstruction(nets.image_decoder(z_i), image) for z_i, *_ in leaves]).mean()
        ledger.add(f"{self.name}_reconstruction", term, losses.hard * losses.reconstruction).backward()
        said = [nets.segmentation_decoder(*read) for _, *read in leaves]
        term = divergence(torch.stack(said))
        ledger.add(f"{self.name}_consistency", term, losses.hard * self.settings.consistency).backward()
        for encoded, cut in zip(codes, leaves, strict=True):
            torch.autograd.backward(encoded, [code.grad for code in cut])


def sample_convolutions(
    image: Tensor, copies: int, sizes: Sequence[int], *, mix: bool, generator: torch.Generator | None
) -> Convolutions:
    """Draws a kernel of one of `sizes`, all odd, and a mixing factor for each copy of (B, C, H, W)."""
    largest, channels = max(sizes), image.shape[1]
    picks = torch.randint(len(sizes), (copies,), generator=generator)
    size = torch.tensor(sizes)[picks].view(-1, 1, 1, 1, 1)
    weights = torch.randn(copies, channels, channels, largest, largest, generator=generator)
    from_middle = (torch.arange(largest) - largest // 2).abs()
    inside = torch.maximum(from_middle, from_middle[:, None]) <= size // 2
    kernels = weights * inside / (channels * size.square()).sqrt()
    kept = torch.rand(copies, generator=generator) * mix
    return Convolutions(like(kernels, image), like(kept, image))


def convolve(image: Tensor, drawn: Convolutions) -> Tensor:
    """Turns images (B, C, H, W) into copies (K, B, C, H, W), not yet scaled; pads images with zeros."""
    copies, channels, _, size, _ = drawn.kernels.shape
    with torch.autocast(image.device.type, enabled=False):
        convolved = F.conv2d(image, drawn.kernels.flatten(0, 1), padding=size // 2)
    convolved = convolved.unflatten(1, (copies, channels)).transpose(0, 1)
    return torch.lerp(convolved, image, drawn.kept.view(-1, 1, 1, 1, 1))


def divergence(logits: Tensor) -> Tensor:
    """Returns the mean of KL(p_k ‖ p̄) over copies, images and pixels of logits (K, B, classes, H, W)."""
    log_p = wide(logits).log_softmax(2)
    p = log_p.exp()
    # p̄ is detached: its gradient, Σ_k p_k / p̄, is the same for every class, so the softmax cancels it.
    # p̄ is above 0 wherever a p_k is; only a class that is 0 in all copies needs the floor.
    log_mean = p.detach().mean(0).clamp_min(torch.finfo(p.dtype).tiny).log()
    return (p * (log_p - log_mean)).sum(2).mean()
