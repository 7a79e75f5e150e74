"""Defines what a method of the results table is: draws for a batch, and terms that it adds to a step.

There are two kinds. An `ImageRival` turns a batch into a harder one, which goes through the same hard pass as
the images of latent masks; your own method is most likely of this kind, with `sample` and `apply`. Any other
`Rival` adds its own terms, after the standard pass (`add`) or at its codes (`at_codes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from coopseg.config.methods import RIVALS
from coopseg.config.resolve import maker_of
from coopseg.config.rivals import NormRule, RivalSettings
from coopseg.config.section import Section
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks, StepNetworks
from coopseg.text import listing, shorten
from coopseg.training.losses import Ledger, rescale_slices
from coopseg.training.passes import NOTHING, Codes, Passes, Truth, Wanted


@dataclass(frozen=True)
class Batch:
    """Holds what the standard pass worked on and left, detached.

    joint: whether the STN's gradient may reach the FTN. progress: share of the training's steps done.
    """

    truth: Truth
    codes: Codes
    joint: bool
    progress: float = 1.0


@dataclass(frozen=True)
class Example:
    """Holds a harder image (B, C, H, W) and the targets of its pass: as given, or warped with the image."""

    inputs: Tensor
    truth: Truth


class Rival:
    """Adds terms to L_std + L_hard. One instance lives as long as a training and keeps nothing.

    name: names its terms in the log. norm: what BatchNorm does while `at_codes` and `add` run; "shared", the
    default, is as in the standard pass: running statistics are updated, weights trained. wanted: gradients
    that the standard pass is to keep at both codes. section: for a method of your own that has settings, the
    class that lists them (a `coopseg.config.section.Section`); `settings` is then one of them, and
    --set rivals.NAME.KEY=VALUE changes it.
    """

    name: ClassVar[str]
    norm: ClassVar[NormRule] = "shared"
    wanted: ClassVar[Wanted] = NOTHING
    section: ClassVar[type[Section] | None] = None

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def sample(self, image: Tensor, code: Sequence[int], generator: torch.Generator | None) -> Any:
        """Draws every random decision for a batch `image` (B, C, H, W) with codes of the shape `code`.

        Draw with `generator` on the CPU, then move to the image's device, so that a seed gives the same draws
        everywhere.
        """
        return None

    def at_codes(
        self,
        passes: Passes,
        truth: Truth,
        drawn: Any,
        ledger: Ledger,
        z_i: Tensor,
        read: Sequence[Tensor],
        codes: Codes,
    ) -> None:
        """Adds terms from the standard pass's own codes, and their gradients to `.grad` of z_i and `read`.

        read: what the segmentation decoder reads, the shape code first.
        """

    def add(self, passes: Passes, batch: Batch, drawn: Any, ledger: Ledger) -> None:
        """Adds terms from passes of its own."""

    def hard_pass(
        self,
        passes: Passes,
        batch: Batch,
        inputs: Tensor,
        ledger: Ledger,
        *,
        truth: Truth | None = None,
        suffix: str = "",
        **more: Any,
    ) -> None:
        """Runs the pass that hard examples go through, on `inputs` (B, C, H, W).

        truth: its targets, by default those of the batch. suffix: follows the rival's name in the names of
        the terms. more: arguments of `Passes.ftn`.
        """
        passes.ftn(
            inputs,
            truth or batch.truth,
            ledger,
            joint=batch.joint,
            prefix=f"{self.name}_{suffix}",
            scale=passes.settings.losses.hard,
            **more,
        )


class ImageRival(Rival):
    """Adds CE(p̃, y) + ½ MSE(x̃', x) + CE(C(p̃), y) for the harder image x̃ that `apply` returns.

    rescale: whether x̃ is scaled to [0, 1] per slice before it enters the encoder.
    """

    rescale: ClassVar[bool] = True

    def apply(self, batch: Batch, drawn: Any, networks: StepNetworks) -> Example:
        """Returns the harder example, detached; depends on its arguments alone.

        Whatever `norm` says, networks that run in here record nothing: only the hard pass does.
        """
        raise NotImplementedError

    def add(self, passes: Passes, batch: Batch, drawn: Any, ledger: Ledger) -> None:
        """Runs the hard pass of the example."""
        with passes.hard_norms("no_update"):
            example = self.apply(batch, drawn, passes.networks)
        inputs = rescale_slices(example.inputs) if self.rescale else example.inputs
        self.hard_pass(passes, batch, inputs, ledger, truth=example.truth)


def like(drawn: Tensor, image: Tensor) -> Tensor:
    """Moves what was drawn on the CPU to the device and type of `image`, without waiting."""
    return drawn.to(image.device, image.dtype, non_blocking=True)


def own_networks(networks: StepNetworks, rival: str) -> Networks:
    """Returns the networks if they are of this package; raises CoopsegError for others."""
    if not isinstance(networks, Networks):
        raise CoopsegError(
            f"{rival} works inside the layers of coopseg.networks.Networks; train these with it"
        )
    return networks


def make_rivals(settings: RivalSettings) -> tuple[Rival, ...]:
    """Makes the rivals that `settings.use` names. Raises CoopsegError for one that cannot be made."""
    made = tuple(_make(name, settings) for name in settings.use)
    if unused := sorted(settings.own.keys() - {rival.name for rival in made}):
        names = listing([rival.name for rival in made])
        raise CoopsegError(f"settings for rivals.{unused[0]}, but the methods in use are called {names}")
    return made


def _make(name: str, settings: RivalSettings) -> Rival:
    maker = maker_of(name)
    if name in RIVALS:
        return maker(settings.of(name))
    made = maker()
    missing = [part for part in ("name", "norm", "sample", "at_codes", "add") if not hasattr(made, part)]
    if missing:
        raise CoopsegError(
            f"method {name}: has no {missing[0]}; derive it from coopseg.training.rival.ImageRival"
        )
    if made.norm not in (rules := get_args(NormRule)):
        raise CoopsegError(f"method {name}: its norm is {shorten(made.norm)}; take one of {', '.join(rules)}")
    values = settings.own.get(made.name, {})
    section = getattr(made, "section", None)
    if section is not None:
        made.settings = section.checked(values)
    elif values:
        raise CoopsegError(
            f"method {name}: has no settings, found {listing(list(values))}; give it a section"
        )
    return made
