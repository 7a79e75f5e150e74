"""Runs a pass through FTN and STN, forward with its losses and backward; a step is made of such passes.

Within a pass the graph is cut at the codes and at p. So each decoder's graph is freed as soon as its gradient
has reached the code, and the targeted masks can rank by that gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from coopseg.config.rivals import NormRule
from coopseg.config.settings import Settings
from coopseg.networks.cooperative import StepNetworks
from coopseg.networks.norm import norm_mode, recorded_twice
from coopseg.training.losses import (
    Ledger,
    cross_entropy,
    one_hot,
    reconstruction,
    soft_dice_loss,
    soften,
    wide,
)

# What a mask can rank by: the gradient of the task loss, or that of mean(output × target).
Wanted = frozenset[Literal["loss", "score"]]
NOTHING: Wanted = frozenset()


@dataclass(frozen=True)
class Truth:
    """Holds the targets of a pass: image (B, C, H, W) in [0, 1] and label, as `cross_entropy` takes it."""

    image: Tensor
    label: Tensor


@dataclass(frozen=True)
class Codes:
    """Holds the results of a pass, detached: codes, clean outputs, and the wanted gradients at the codes."""

    image: Tensor  # z_i, (B, 8 width, H/16, W/16)
    image_gradients: dict[str, Tensor]
    decoded: Tensor | None  # x'; None if the image decoder did not run
    read: tuple[Tensor, ...]  # what the segmentation decoder reads: z_s and the skips
    shape_gradients: dict[str, tuple[Tensor, ...]]  # at each of these
    logits: Tensor  # p


# Called with the leaves of the graph, z_i and what the segmentation decoder reads.
AtCodes = Callable[[Tensor, Sequence[Tensor], Codes], None]


@dataclass(frozen=True)
class Further:
    """Describes a further term of a pass: `of` maps the logits p to a scalar, which the log calls `name`."""

    name: str
    weight: float
    of: Callable[[Tensor], Tensor]


def leaf(tensor: Tensor) -> Tensor:
    """Cut the graph here; the gradient collects in `.grad`."""
    return tensor.detach().requires_grad_()


def fast_logits(networks: StepNetworks, image: Tensor) -> Tensor:
    """Returns the FTN's logits p (B, classes, H, W) for an image (B, C, H, W)."""
    return networks.segmentation_decoder(*networks.encode(image)[1:])


class Passes:
    """Runs the passes of a step over given networks; each adds its gradient to their parameters."""

    def __init__(self, networks: StepNetworks, settings: Settings) -> None:
        self.networks = networks
        self.settings = settings

    def ftn(
        self,
        inputs: Tensor,
        truth: Truth,
        ledger: Ledger,
        *,
        joint: bool,
        prefix: str = "",
        scale: float = 1.0,
        wanted_image: Wanted = NOTHING,
        wanted_shape: Wanted = NOTHING,
        encode: Callable[[Tensor], Sequence[Tensor]] | None = None,
        dice: float = 0.0,
        further: Sequence[Further] = (),
        at_codes: Sequence[AtCodes] = (),
    ) -> Codes:
        """Computes CE(p, y), ½ MSE(x', x), CE(C(p), y) and, if set, Dice of `inputs`, and their gradients.

        The image decoder runs only if its loss has a weight or a gradient at the image code is wanted.

        joint: whether the gradient of the STN flows into the FTN. prefix: put before the terms' names. scale:
        factor on every weight. wanted_image, wanted_shape: gradients to keep at the codes. encode: maps
        inputs to codes and skips; None means `networks.encode`. dice: least weight of the Dice loss; the
        settings may have a larger one. further: other terms of p. at_codes: see `AtCodes`; they are called
        before the leaves' gradient goes on into the encoder, and may add to it.
        """
        weights, nets = self.settings.losses, self.networks
        encoded = (encode or nets.encode)(inputs)
        z_i, *read = map(leaf, encoded)

        image_gradients: dict[str, Tensor] = {}
        decoded = None
        if weights.reconstruction or wanted_image:
            image_gradients, decoded = self._image_branch(z_i, truth, ledger, prefix, scale, wanted_image)

        with self._probed(nets.segmentation_decoder, wanted_shape):
            logits = nets.segmentation_decoder(*read)
        p = leaf(logits)
        term = cross_entropy(p, truth.label)
        weighted = ledger.add(prefix + "segmentation", term, weights.segmentation * scale)
        (seed,) = torch.autograd.grad(weighted, p)
        shape_gradients = self._shape_gradients(logits, read, seed, truth, wanted_shape)
        if weight := max(weights.dice, dice):
            further = [Further("dice", weight, partial(soft_dice_loss, label=truth.label)), *further]
        for more in further:
            ledger.add(prefix + more.name, more.of(p), scale * more.weight).backward()
        if weights.stn:
            seen = p if joint else p.detach()[:: weights.stn_every]
            label = truth.label if joint else truth.label[:: weights.stn_every]
            softened = soften(seen, weights.temperature)
            self.stn(softened, label, ledger, prefix + "refined", scale * weights.refined)
        if p.grad is not None:
            seed = seed + p.grad
        logits.backward(seed)
        cut = tuple(z.detach() for z in read)
        codes = Codes(z_i.detach(), image_gradients, decoded, cut, shape_gradients, p.detach())
        for add_to in at_codes:
            add_to(z_i, read, codes)
        leaves = zip(encoded, (z_i, *read), strict=True)
        reached = [(code, z.grad) for code, z in leaves if z.grad is not None]
        torch.autograd.backward([code for code, _ in reached], [gradient for _, gradient in reached])
        return codes

    def stn(self, inputs: Tensor, label: Tensor, ledger: Ledger, name: str, weight: float) -> None:
        """Computes CE(C(inputs), y) and its gradient; inputs (B, classes, H, W) sum to 1 over classes."""
        term = cross_entropy(self.networks.refine(inputs), label)
        ledger.add(name, term, weight).backward()

    def hard_norms(self, rule: NormRule) -> AbstractContextManager[None]:
        """Applies a BatchNorm rule within the block; "published" leaves out the image decoder."""
        nets = self.networks
        ruled = [part for part in nets.children() if rule != "published" or part is not nets.image_decoder]
        record, learn = rule in ("shared", "recorded"), rule in ("shared", "no_update")
        return norm_mode(*ruled, record=record, learn=learn)

    def _image_branch(
        self, z_i: Tensor, truth: Truth, ledger: Ledger, prefix: str, scale: float, wanted: Wanted
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Reconstruct, differentiate, and keep the gradients at the image code that masks rank by."""
        decoder = self.networks.image_decoder
        with self._probed(decoder, wanted):
            decoded = decoder(z_i)
        term = reconstruction(decoded, truth.image)
        weighted = ledger.add(prefix + "reconstruction", term, scale * self.settings.losses.reconstruction)
        gradients = {}
        if "score" in wanted:
            mean = (wide(decoded) * truth.image).mean()
            (gradients["score"],) = torch.autograd.grad(mean, z_i, retain_graph=True)
        weighted.backward()
        if "loss" in wanted:
            gradients["loss"] = z_i.grad.clone()  # type: ignore[union-attr]  # a positive factor changes no rank
        return gradients, decoded.detach()

    def _shape_gradients(
        self, logits: Tensor, read: Sequence[Tensor], seed: Tensor, truth: Truth, wanted: Wanted
    ) -> dict[str, tuple[Tensor, ...]]:
        """Returns the wanted gradients at shape code and skips, of the FTN alone, without the STN's share."""
        seeds = {}
        if "loss" in wanted:
            seeds["loss"] = seed
        if "score" in wanted:
            target = one_hot(truth.label, self.networks.classes, logits)
            seeds["score"] = target / target.numel()
        return {
            rule: torch.autograd.grad(logits, read, given.to(logits.dtype), retain_graph=True)
            for rule, given in seeds.items()
        }

    def _probed(self, decoder: nn.Module, wanted: Wanted) -> AbstractContextManager[None]:
        """Has the decoder's running statistics record the "published" probe, which is a second pass."""
        published = wanted and self.settings.latent.norm == "published"
        return recorded_twice(decoder) if published else nullcontext()
