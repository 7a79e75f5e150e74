"""Runs one training step: standard pass, its hard examples, hard pass (Chen et al. 2021, section 2).

The passes share no graph, since hard examples are detached. So the standard pass is differentiated before the
hard pass is built, and the memory of both is never needed at once. Rivals add their own passes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.config.settings import Settings
from coopseg.latent.choice import MaskChoice
from coopseg.latent.masks import LatentMasks, rise_by_scheme
from coopseg.networks.cooperative import StepNetworks
from coopseg.training.label_damage import Damage, damage_labels, sample_damage
from coopseg.training.losses import Ledger, one_hot, rescale_slices, soften, wide
from coopseg.training.passes import NOTHING, Codes, Passes, Truth, Wanted
from coopseg.training.rival import Batch, Rival, make_rivals


@dataclass(frozen=True)
class StepChoice:
    """Holds every random decision of a step, so that it can be replayed."""

    noise: Tensor  # (B, C, H, W), standard normal
    image: MaskChoice | None
    shape: MaskChoice | None
    skips: tuple[MaskChoice, ...] = ()  # for each skip that the decoder reads, masked with the shape code
    damage: Damage | None = None  # damage of the label maps that the STN learns from
    joint: bool = True  # whether the STN's gradient may flow into the FTN
    progress: float = 1.0  # share of the training's steps that is done
    rivals: Sequence[Any] = ()  # what each rival drew; empty if none takes part


@dataclass(frozen=True)
class StepResult:
    """Holds what a step measured, all on the device, so nothing waits. Gradients are in the parameters."""

    losses: dict[str, Tensor]  # unweighted terms by name, and their weighted "total"
    rises: dict[str, Tensor] = field(default_factory=dict)  # "image", "shape": see `rise_by_scheme`
    x_hat: Tensor | None = None
    p_hat: Tensor | None = None


class CooperativeStep:
    """Combines FTN and STN with their losses; `backward` adds the whole step's gradient to the parameters.

    networks: those of this package, or your own with what `coopseg.networks.StepNetworks` lists. settings
    choose method, ablations and rivals; the default is cooperative training with latent masks. Without the
    masks and with `losses.separate` this is standard training; with `losses.stn` off it trains the FTN alone.
    Networks of your own may be 3-D, but for damaged label maps (`losses.damage`) and rivals.

    >>> import torch
    >>> from coopseg.networks import Networks
    >>> step, generator = CooperativeStep(Networks(classes=3, width=2)), torch.Generator().manual_seed(0)
    >>> image, label = torch.rand(2, 1, 32, 32), torch.randint(3, (2, 32, 32))
    >>> result = step.backward(image, label, step.sample(image, generator))
    >>> sorted(result.losses)[:4]
    ['hard_reconstruction', 'hard_refined', 'hard_segmentation', 'hard_shape']
    """

    def __init__(self, networks: StepNetworks, settings: Settings | None = None) -> None:
        self.networks = networks
        self.settings = settings or Settings()
        self.passes = Passes(networks, self.settings)
        self.masks = LatentMasks.of(self.settings.latent)
        self.rivals: tuple[Rival, ...] = make_rivals(self.settings.rivals)

    def sample(
        self,
        image: Tensor,
        generator: torch.Generator | None = None,
        *,
        cooperate: bool = True,
        progress: float = 1.0,
    ) -> StepChoice:
        """Draws the noise, the masks and what the rivals need for a batch (B, C, *spatial).

        cooperate: False for a step of standard training, without masks, rivals and the STN's gradient in the
        FTN. progress: the share of the training's steps that is done, for rivals that begin later.
        """
        latent = self.settings.latent
        noise = torch.randn(image.shape, generator=generator).to(image.device, image.dtype, non_blocking=True)
        codes = self.networks.code_shapes(image.shape)
        masked = max(1, round(latent.share * len(image)))

        def draw(wanted: bool, *shapes: Sequence[int]) -> list[MaskChoice]:
            if not (wanted and cooperate):
                return []
            drawn = [(masked, *shape[1:]) for shape in shapes]
            return self.masks.sample_levels(drawn, generator, image.device)

        by_image = draw(latent.image, codes[0])
        by_shape = draw(latent.shape and self.settings.losses.stn, *codes[1:])
        rivals = self.rivals if cooperate else ()
        return StepChoice(
            noise,
            by_image[0] if by_image else None,
            by_shape[0] if by_shape else None,
            skips=tuple(by_shape[1:]),
            damage=self._sample_damage(image, generator),
            joint=cooperate,
            progress=progress,
            rivals=[rival.sample(image, codes[0], generator) for rival in rivals],
        )

    def _sample_damage(self, image: Tensor, generator: torch.Generator | None) -> Damage | None:
        losses = self.settings.losses
        if not (losses.stn and losses.damage):
            return None
        seen, size = len(image[:: losses.stn_every]), (image.shape[2], image.shape[3])
        kinds = self.settings.rivals.post_dae
        return sample_damage(seen, size, self.networks.classes, kinds, generator).to(image.device)

    def backward(self, image: Tensor, label: Tensor, choice: StepChoice) -> StepResult:
        """Adds a step's gradients: image (B, C, *spatial) in [0, 1], label (B, *spatial) integers."""
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
            wanted_shape=self._wanted(choice.shape, rivals, *choice.skips),
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
        self,
        rival: Rival,
        truth: Truth,
        drawn: Any,
        ledger: Ledger,
        z_i: Tensor,
        read: Sequence[Tensor],
        codes: Codes,
    ) -> None:
        with self.passes.hard_norms(rival.norm):
            rival.at_codes(self.passes, truth, drawn, ledger, z_i, read, codes)

    def _wanted(
        self, choice: MaskChoice | None, rivals: Sequence[tuple[Rival, Any]], *further: MaskChoice
    ) -> Wanted:
        """Returns which gradients at a code, and at further ones, the masks or a rival will rank by."""
        wanted = NOTHING.union(*(rival.wanted for rival, _ in rivals))
        masks = [choice, *further] if choice is not None else []
        return wanted | {self._rule} if any(mask.needs_gradient for mask in masks) else wanted

    @property
    def _rule(self) -> Literal["loss", "score"]:
        return "score" if self.masks.score == "score" else "loss"

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
        nets, rises, label = self.networks, {}, truth.label
        x_hat = p_hat = None
        if choice.image is not None:
            assert codes.decoded is not None  # the settings ensure it
            ranked_by: Sequence[Tensor | None] = [codes.image_gradients.get(self._rule)]
            x_hat, rises["image"] = self._decode(
                nets.image_decoder, [codes.image], ranked_by, [choice.image], codes.decoded,
                lambda out: (wide(out) - truth.image[: len(out)]).square(),
            )  # fmt: skip
            x_hat = rescale_slices(x_hat) if self.settings.latent.rescale else x_hat
        if choice.shape is not None:
            ranked_by = codes.shape_gradients.get(self._rule) or [None] * len(codes.read)
            p_hat, rises["shape"] = self._decode(
                nets.segmentation_decoder, codes.read, ranked_by, [choice.shape, *choice.skips], codes.logits,
                lambda out: F.cross_entropy(wide(out), label[: len(out)], reduction="none"),
            )  # fmt: skip
        return x_hat, p_hat, rises

    def _decode(
        self,
        decoder: nn.Module,
        read: Sequence[Tensor],
        ranked_by: Sequence[Tensor | None],
        choices: Sequence[MaskChoice],
        clean: Tensor,
        loss: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Returns the hard examples of the first samples of what the decoder reads, a code and any skips.

        The second result is what `rise_by_scheme` makes of them, by the scheme at the code.
        """
        n = len(choices[0])
        gradients = [None if gradient is None else gradient[:n] for gradient in ranked_by]
        hard = self.masks.decode(decoder, [code[:n] for code in read], choices, gradients)
        losses = {name: loss(out).flatten(1).mean(1) for name, out in (("clean", clean[:n]), ("hard", hard))}
        return hard, rise_by_scheme(choices[0], **losses)
