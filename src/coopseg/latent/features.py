"""Masks what the decoder of any network reads, without a change to the network."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Literal

import torch
from torch import Tensor, nn

from coopseg.errors import CoopsegError
from coopseg.latent.choice import MaskChoice
from coopseg.latent.masks import LatentMasks, apply_mask
from coopseg.latent.places import find_places
from coopseg.networks.norm import norm_mode

Levels = Literal["all", "deep", "bottleneck"]
DEEP = 4  # "deep" means a resolution of a quarter or less
CHECKPOINTING = "torch.utils.checkpoint"


@dataclass
class _Feature:
    """Holds what was recorded of one feature. key: its place and its number there."""

    key: tuple[str, int]
    code: Tensor
    gradient: Tensor | None = None

    def add(self, gradient: Tensor) -> None:
        self.gradient = gradient if self.gradient is None else self.gradient + gradient

    @property
    def positions(self) -> int:
        return math.prod(self.code.shape[2:])


def _add(feature: weakref.ref[_Feature], gradient: Tensor) -> None:
    """Hands on a gradient. A hook that held the feature, which holds the graph, would keep both for ever."""
    if kept := feature():
        kept.add(gradient)


class MaskedFeatures:
    """Records what a network's decoder reads, and lets it read masked features instead.

    The network may be 2-D or 3-D, with any number of channels and classes. It is not changed: hooks are there
    within the blocks of `recorded` and `masked` only, and its state dict stays as it is.

    network: an encoder and decoder with or without skip connections. masks: how to mask. at: "auto" for
    networks with a `decoder` module (nnU-Net's, segmentation_models_pytorch's) or methods `encode` and
    `decode` (MONAI's SegResNet), and for MONAI's UNet and DynUNet; otherwise names of modules whose outputs
    are features. levels: "all" features, "deep" ones at a quarter of the image's resolution or less, or the
    "bottleneck" alone. With skip connections a decoder reads around the masks of anything but "all".
    `codes` and `gradients` are what was recorded, the deepest first.
    Raises CoopsegError if nothing is found to mask, and for compiled networks, whose hooks do not run.

    >>> from coopseg.networks import Networks
    >>> network, image = Networks(classes=3, width=2, kind="unet"), torch.rand(2, 1, 32, 32)
    >>> features, generator = MaskedFeatures(network), torch.Generator().manual_seed(0)
    >>> with features.recorded():
    ...     loss = network.fast(image).logsumexp(1).mean()
    >>> loss.backward()
    >>> with features.masked(features.sample(generator)):
    ...     harder = network.fast(image)
    >>> [tuple(code.shape) for code in features.codes], torch.equal(harder, network.fast(image))
    ([(2, 16, 2, 2), (2, 16, 4, 4), (2, 8, 8, 8)], False)
    """

    def __init__(
        self,
        network: nn.Module,
        masks: LatentMasks | None = None,
        *,
        at: str | Sequence[str] = "auto",
        levels: Levels = "all",
    ) -> None:
        if isinstance(network, nn.parallel.DistributedDataParallel):
            network = network.module
        self.network, self.masks, self.levels = network, masks or LatentMasks(), levels
        if levels not in ("all", "deep", "bottleneck"):
            raise CoopsegError(f"levels={levels!r} is not known; use all, deep or bottleneck")
        self._check_hooks_run()
        self.places = find_places(network, at)
        self._found: list[_Feature] = []
        self._size: Sequence[int] = ()

    @property
    def codes(self) -> list[Tensor]:
        """Returns the recorded features that will be masked, with their graph, the deepest first.

        After a backward pass features that got no gradient are left out: the decoder does not read them.
        """
        return [feature.code for feature in self._chosen()]

    @property
    def gradients(self) -> list[Tensor | None]:
        """Returns the gradient of each of `codes`; None before a backward pass."""
        return [feature.gradient for feature in self._chosen()]

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Records the features of the one forward pass in the block; their gradients come with `backward`.

        Backward passes add up, inside or behind the block, until the next recording. Raises CoopsegError
        where one place is passed twice, without gradient, or under activation checkpointing.
        """
        self._found, self._size = [], ()
        first = self.network.register_forward_pre_hook(self._note_size, with_kwargs=True)
        with self._exchanging(self._record, once=True):
            try:
                yield
            finally:
                first.remove()

    def rank_by(self, value: Tensor) -> None:
        """Takes the gradient of `value`, a number made of the recorded pass, in place of that of the loss.

        Masks with score "score" rank by that of mean(output × target).
        """
        codes = [feature.code for feature in self._found]
        found = torch.autograd.grad(value, codes, retain_graph=True, allow_unused=True)
        for feature, gradient in zip(self._found, found, strict=True):
            feature.gradient = gradient

    def sample(self, generator: torch.Generator | None = None) -> list[MaskChoice]:
        """Draws the decisions for masks of the recorded features: one scheme and u per sample."""
        codes = self.codes
        if not codes:
            raise CoopsegError("no feature is recorded; run the network within `recorded()` first")
        return self.masks.sample_levels([code.shape for code in codes], generator, codes[0].device)

    @contextmanager
    def masked(self, choices: Sequence[MaskChoice]) -> Iterator[None]:
        """Lets the decoder read masked features in the forward passes of the block.

        choices: from `sample`. The masks are built from the recorded features and gradients, and multiply
        what the encoder gives now: run it on the same batch. Running statistics of normalisation layers stay
        as they are; for their weights see `frozen_norms`. Raises CoopsegError if no gradient is there to rank
        by, or the batch has another shape than the recorded one.
        """
        chosen = self._chosen()
        if any(choice.needs_gradient for choice in choices) and any(each.gradient is None for each in chosen):
            raise CoopsegError("no gradient to rank by; call backward or `rank_by` behind `recorded()`")
        codes = [feature.code.detach() for feature in chosen]
        masks = self.masks.build_levels(choices, codes, [feature.gradient for feature in chosen])
        by_key = {feature.key: mask for feature, mask in zip(chosen, masks, strict=True)}
        shapes = {feature.key: feature.code.shape for feature in self._found}

        def mask_all(place: str, features: list[Tensor]) -> list[Tensor]:
            keys = [(place, number) for number in range(len(features))]
            for key, feature in zip(keys, features, strict=True):
                if key in shapes and feature.shape != shapes[key]:
                    raise CoopsegError(
                        f"{place}: features {tuple(feature.shape)}, recorded were {tuple(shapes[key])}; "
                        "run the network on the recorded batch"
                    )
            return [
                apply_mask(feature, by_key[key]) if key in by_key else feature
                for key, feature in zip(keys, features, strict=True)
            ]

        with norm_mode(self.network, record=False, learn=True), self._exchanging(mask_all, once=False):
            yield

    def _chosen(self) -> list[_Feature]:
        ranked = any(feature.gradient is not None for feature in self._found)
        read = [feature for feature in self._found if feature.gradient is not None or not ranked]
        read.sort(key=lambda feature: feature.positions)
        if self.levels == "bottleneck":
            return read[:1]
        if self.levels == "deep":
            return [feature for feature in read if self._is_deep(feature.code)] or read[:1]
        return read

    def _is_deep(self, code: Tensor) -> bool:
        return any(whole >= DEEP * part for whole, part in zip(self._size, code.shape[2:], strict=False))

    def _note_size(self, _: nn.Module, given: tuple[object, ...], named: dict[str, object]) -> None:
        images = [each for each in (*given, *named.values()) if isinstance(each, Tensor)]
        self._size = images[0].shape[2:] if images else ()

    def _record(self, place: str, features: list[Tensor]) -> list[Tensor]:
        if not torch.is_grad_enabled():
            raise CoopsegError(f"{place}: runs without gradient, nothing can be ranked; leave out no_grad")
        found = []
        for number, feature in enumerate(features):
            # A view: its gradient is that of the decoder, without that of deeper layers of the encoder.
            code = feature.view_as(feature) if feature.requires_grad else feature.detach().requires_grad_()
            kept = _Feature((place, number), code)
            code.register_hook(partial(_add, weakref.ref(kept)))
            self._found.append(kept)
            found.append(code)
        return found

    @contextmanager
    def _exchanging(self, work: Callable[[str, list[Tensor]], list[Tensor]], *, once: bool) -> Iterator[None]:
        """Exchanges features in the forward passes of the block. once: there is to be exactly one."""
        self._check_hooks_run()
        seen: list[str] = []

        def exchange(place: str, features: list[Tensor]) -> list[Tensor]:
            _check_no_checkpoint(place)
            if once and place in seen:
                raise CoopsegError(f"{place}: runs twice in one pass; name other places by at=[...]")
            seen.append(place)
            return work(place, features)

        with ExitStack() as undo:
            for place in self.places:
                undo.callback(place.attach(partial(exchange, place.name)))
            yield
        if not seen:
            raise CoopsegError("within the block the network did not run, or not through the places found")

    def _check_hooks_run(self) -> None:
        for name, module in self.network.named_modules():
            compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
            if compiled or isinstance(module, torch.jit.ScriptModule | nn.DataParallel):
                kind = "compiled" if compiled else f"a {type(module).__name__}"
                raise CoopsegError(
                    f"{name or 'the network'}: is {kind}, where hooks do not run; give the plain network"
                )


def _check_no_checkpoint(place: str) -> None:
    """Raise CoopsegError under activation checkpointing: it runs layers again in backward, without masks."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == CHECKPOINTING:
            raise CoopsegError(f"{place}: runs under activation checkpointing; turn it off")
        frame = frame.f_back
