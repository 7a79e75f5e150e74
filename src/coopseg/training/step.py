"""Runs one training step: standard pass, its hard examples, hard pass (Chen et al. 2021, section 2).

The passes share no graph, since hard examples are detached. So the standard pass is differentiated before the
hard pass is built, and their memory is never needed together. Rivals add their own passes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.settings import Settings
from coopseg.latent.choice import MaskChoice, sample_choice
from coopseg.latent.hard import decode_masked, rise_by_scheme
from coopseg.networks.cooperative import MULTIPLE, Networks
from coopseg.training.label_damage import Damage, damage_labels, sample_damage
from coopseg.training.ledger import Ledger
from coopseg.training.losses import one_hot, rescale_slices, soften, wide
from coopseg.training.passes import NOTHING, Codes, Passes, Truth, Wanted
from coopseg.training.rival import Batch, Rival, make_rivals


@dataclass(frozen=True)
class StepChoice:
    """Holds every random decision of a step, so that it can be replayed."""

    noise: Tensor  # (B, C, H, W), standard normal
    image: MaskChoice | None
    shape: MaskChoice | None
    damage: Damage | None = None  # damage of the label maps that the STN learns from
    joint: bool = True  # whether the STN's gradient may flow into the FTN
    progress: float = 1.0  # share of the training's steps that is done
    rivals: Sequence[Any] = ()  # what each rival drew; empty if none takes part


@dataclass(frozen=True)
class StepResult:
    """Holds what a step measured, all on the device, so nothing waits. Gradients are in the parameters."""

    losses: dict[str, Tensor]  # unweighted terms by name, and their weighted "total"
    rises: dict[str, Tensor] = field(default_factory=dict)  # "image", "shape": see latent.hard.rise_by_scheme
    x_hat: Tensor | None = None
    p_hat: Tensor | None = None


class CooperativeStep:
    """Combines FTN and STN with their losses; `backward` adds the whole step's gradient to the parameters.

    Settings choose method, ablations and rivals: without latent masks and with `losses.separate` this is
    standard training; with `losses.stn` off it trains the FTN alone.
    """

    def __init__(self, networks: Networks, settings: Settings) -> None:
        self.networks = networks
        self.settings = settings
        self.passes = Passes(networks, settings)
        self.rivals: tuple[Rival, ...] = make_rivals(settings.rivals)

    def sample(
        self,
        image: Tensor,
        generator: torch.Generator | None = None,
        *,
        cooperate: bool = True,
        progress: float = 1.0,
    ) -> StepChoice:
        """Draw the noise, the masks and what the rivals need for a batch (B, C, H, W).

        cooperate: False for a step of standard training, without masks, rivals and the STN's gradient in the
        FTN. progress: the share of the training's steps that is done, for rivals that begin later.
        """
        latent, width = self.settings.latent, self.settings.network.width
        noise = torch.randn(image.shape, generator=generator).to(image.device, image.dtype, non_blocking=True)
        code = (image.shape[0], 8 * width, image.shape[2] // MULTIPLE, image.shape[3] // MULTIPLE)
        masked = (max(1, round(latent.share * len(image))), *code[1:])

        def draw(wanted: bool) -> MaskChoice | None:
            return sample_choice(masked, latent, generator, image.device) if wanted and cooperate else None

        masks = draw(latent.image), draw(latent.shape and self.settings.losses.stn)
        damage = self._sample_damage(image, generator)
        rivals = [rival.sample(image, code, generator) for rival in self.rivals] if cooperate else []
        return StepChoice(noise, *masks, damage=damage, joint=cooperate, progress=progress, rivals=rivals)

    def _sample_damage(self, image: Tensor, generator: torch.Generator | None) -> Damage | None:
        losses = self.settings.losses
        if not (losses.stn and losses.damage):
            return None
        seen, size = len(image[:: losses.stn_every]), (image.shape[2], image.shape[3])
        kinds = self.settings.rivals.post_dae
        return sample_damage(seen, size, self.networks.classes, kinds, generator).to(image.device)

    def backward(self, image: Tensor, label: Tensor, choice: StepChoice) -> StepResult:
        """Adds the gradients of a step on image (B, C, H, W) in [0, 1] and label (B, H, W) integers."""
        weights = self.settings.losses
        noisy = (image + weights.input_noise * choice.noise).clamp_(0, 1) if weights.input_noise else image
        truth, ledger = Truth(image, label), Ledger()
        joint = choice.joint and not weights.separate
        rivals = list(zip(self.rivals, choice.rivals, strict=True)) if choice.rivals else []
        if weights.stn:  # before C(p), which as published the running statistics record last
            target = label[:: weights.stn_every]
            shown = target if choice.damage is None else damage_labels(target, choice.damage)
            exact = one_hot(shown, self.networks.classes, image)
            self.passes.stn(exact, target, ledger, "shape", weights.shape)
        codes = self.passes.ftn(
            noisy,
            truth,
            ledger,
            joint=joint,
            wanted_image=self._wanted(choice.image, rivals),
            wanted_shape=self._wanted(choice.shape, rivals),
            at_codes=[partial(self._at_codes, rival, truth, drawn, ledger) for rival, drawn in rivals],
        )
        x_hat, p_hat, rises = self._hard_examples(codes, truth, choice)
        with self.passes.hard_norms(self.settings.latent.norm):
            self._hard_pass(x_hat, p_hat, truth, ledger, joint=joint)
        batch = Batch(truth, codes, joint, choice.progress)
        for rival, drawn in rivals:
            with self.passes.hard_norms(rival.norm):
                rival.add(self.passes, batch, drawn, ledger)
        return StepResult(ledger.losses, rises, x_hat, p_hat)

    def _at_codes(
        self, rival: Rival, truth: Truth, drawn: Any, ledger: Ledger, z_i: Tensor, z_s: Tensor, codes: Codes
    ) -> None:
        with self.passes.hard_norms(rival.norm):
            rival.at_codes(self.passes, truth, drawn, ledger, z_i, z_s, codes)

    def _wanted(self, choice: MaskChoice | None, rivals: Sequence[tuple[Rival, Any]]) -> Wanted:
        """Returns which gradients at a code the masks, or a rival, will rank by."""
        wanted = NOTHING.union(*(rival.wanted for rival, _ in rivals))
        return wanted | {self._rule} if choice is not None and choice.needs_gradient else wanted

    @property
    def _rule(self) -> Any:
        return "score" if self.settings.latent.score == "score" else "loss"

    def _hard_pass(
        self, x_hat: Tensor | None, p_hat: Tensor | None, truth: Truth, ledger: Ledger, *, joint: bool
    ) -> None:
        weights = self.settings.losses
        if x_hat is not None:
            masked = Truth(truth.image[: len(x_hat)], truth.label[: len(x_hat)])
            self.passes.ftn(x_hat, masked, ledger, joint=joint, prefix="hard_", scale=weights.hard)
        if p_hat is not None:
            softened = soften(p_hat[:: weights.stn_every], weights.temperature)
            target = truth.label[: len(p_hat)][:: weights.stn_every]
            self.passes.stn(softened, target, ledger, "hard_shape", weights.hard * weights.shape)

    def _hard_examples(
        self, codes: Codes, truth: Truth, choice: StepChoice
    ) -> tuple[Tensor | None, Tensor | None, dict[str, Tensor]]:
        """Returns x̂, p̂ and how much they raised the loss; no gradient reaches the decoders through them."""
        latent, nets = self.settings.latent, self.networks
        x_hat = p_hat = None
        rises = {}
        if choice.image is not None:
            n = len(choice.image)
            assert codes.decoded is not None  # the settings ensure it
            x_hat = decode_masked(
                nets.image_decoder,
                codes.image[:n],
                choice=choice.image,
                gradient=_first(n, codes.image_gradients.get(self._rule)),
                settings=latent,
            )
            clean, hard = (
                (wide(decoded) - truth.image[:n]).square().mean((1, 2, 3))
                for decoded in (codes.decoded[:n], x_hat)
            )
            rises["image"] = rise_by_scheme(choice.image, clean=clean, hard=hard)
            if latent.rescale:
                x_hat = rescale_slices(x_hat)
        if choice.shape is not None:
            n = len(choice.shape)
            p_hat = decode_masked(
                nets.segmentation_decoder,
                codes.shape[:n],
                choice=choice.shape,
                gradient=_first(n, codes.shape_gradients.get(self._rule)),
                settings=latent,
            )
            clean, hard = (
                F.cross_entropy(wide(logits), truth.label[:n], reduction="none").mean((1, 2))
                for logits in (codes.logits[:n], p_hat)
            )
            rises["shape"] = rise_by_scheme(choice.shape, clean=clean, hard=hard)
        return x_hat, p_hat, rises


def _first(n: int, gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient[:n]
