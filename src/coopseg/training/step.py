"""One training step: standard pass, the hard examples it yields, hard pass (Chen et al. 2021, section 2).

The two passes share no graph, since hard examples are detached, so the standard pass is differentiated
before the hard pass is built and their memory is never needed together. Within a pass the graph is cut
at the codes and at p for the same reason: each decoder's graph is freed as soon as it has told the code
its gradient, and that gradient is also what the targeted masks rank by.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.config.settings import Settings
from coopseg.latent.choice import MaskChoice, sample_choice
from coopseg.latent.hard import decode_masked, rise_by_scheme
from coopseg.networks.cooperative import MULTIPLE, Networks
from coopseg.networks.norm import norm_mode, norms, recorded_twice
from coopseg.training.losses import cross_entropy, one_hot, reconstruction, rescale_slices, soften, wide


@dataclass(frozen=True)
class StepChoice:
    """Every random decision of a step, so that it can be replayed."""

    noise: Tensor  # (B, C, H, W), standard normal
    image: MaskChoice | None
    shape: MaskChoice | None
    joint: bool = True  # whether the STN's gradient may flow into the FTN


@dataclass(frozen=True)
class StepResult:
    """What a step measured; all on the device, nothing waits for it. Gradients lie in the parameters."""

    losses: dict[str, Tensor]  # unweighted terms by name, and their weighted "total"
    rises: dict[str, Tensor]  # "image", "shape": see latent.hard.rise_by_scheme
    x_hat: Tensor | None = None
    p_hat: Tensor | None = None


@dataclass(frozen=True)
class Codes:
    """What the standard pass leaves for the hard examples: detached codes, their gradients, clean outputs."""

    image: Tensor
    image_gradient: Tensor | None
    decoded: Tensor
    shape: Tensor
    shape_gradient: Tensor | None
    logits: Tensor


def leaf(tensor: Tensor) -> Tensor:
    """Cut the graph here; the gradient collects in `.grad`."""
    return tensor.detach().requires_grad_()


class CooperativeStep(nn.Module):
    """FTN and STN with their losses; calling it adds the gradient of the whole step to the parameters.

    Method and ablations are settings: without latent masks and with `losses.separate` this is standard
    training, with `losses.stn` off the FTN alone.
    """

    def __init__(self, networks: Networks, settings: Settings) -> None:
        super().__init__()
        self.networks = networks
        self.settings = settings

    def sample(
        self, image: Tensor, generator: torch.Generator | None = None, *, cooperate: bool = True
    ) -> StepChoice:
        """Draw the noise and the masks for a batch (B, C, H, W).

        cooperate: False for a step of standard training, without masks and without the STN's gradient.
        """
        latent, width = self.settings.latent, self.settings.network.width
        noise = torch.randn(image.shape, generator=generator).to(image.device, image.dtype, non_blocking=True)
        code = (image.shape[0], 8 * width, image.shape[2] // MULTIPLE, image.shape[3] // MULTIPLE)

        def draw(wanted: bool) -> MaskChoice | None:
            return sample_choice(code, latent, generator, image.device) if wanted and cooperate else None

        shape = latent.shape and self.settings.losses.stn
        return StepChoice(noise, draw(latent.image), draw(shape), joint=cooperate)

    def forward(self, image: Tensor, label: Tensor, choice: StepChoice) -> StepResult:
        """image (B, C, H, W) in [0, 1], label (B, H, W) integers. Adds gradients; see StepResult."""
        weights = self.settings.losses
        noisy = (image + weights.input_noise * choice.noise).clamp_(0, 1) if weights.input_noise else image
        truth = one_hot(label, self.networks.classes, image)
        losses: dict[str, Tensor] = {}
        joint = choice.joint and not weights.separate
        codes = self._ftn(noisy, image, label, losses, "", choice, joint=joint)
        if weights.stn:
            self._stn(truth, label, losses, "shape", weights.shape)
        x_hat, p_hat, rises = self._hard_examples(codes, image, label, choice)
        del codes
        with self._hard_norms():
            if x_hat is not None:
                self._ftn(x_hat, image, label, losses, "hard_", None, joint=joint)
            if p_hat is not None:
                softened = soften(p_hat, weights.temperature)
                self._stn(softened, label, losses, "hard_shape", weights.hard * weights.shape)
        losses["total"] = self._total(losses)
        return StepResult(losses, rises, x_hat, p_hat)

    def _ftn(
        self,
        inputs: Tensor,
        image: Tensor,
        label: Tensor,
        losses: dict[str, Tensor],
        prefix: str,
        choice: StepChoice | None,
        *,
        joint: bool,
    ) -> Codes:
        """Both heads on `inputs` against clean `image` and `label`, and the STN on p; backward included.

        `choice` (standard pass only) says which gradients the masks will need; `joint` whether the gradient
        of the STN flows into the FTN.
        """
        weights, nets = self.settings.losses, self.networks
        scale = weights.hard if prefix else 1.0
        image_code = nets.image_encoder(inputs)
        z_i = leaf(image_code)
        shape_code = nets.image_encoder.decoupler(z_i)
        z_s = leaf(shape_code)

        image_gradient, decoded = self._image_branch(z_i, image, losses, prefix, choice)

        probed = choice is not None and choice.shape is not None and choice.shape.needs_gradient
        with self._probed(nets.segmentation_decoder, probed):
            logits = nets.segmentation_decoder(z_s)
        p = leaf(logits)
        term = cross_entropy(p, label)
        losses[prefix + "segmentation"] = term.detach()
        (seed,) = torch.autograd.grad(weights.segmentation * scale * term, p)
        shape_gradient = self._shape_gradient(logits, z_s, seed, label) if probed else None
        if weights.stn:
            softened = soften(p if joint else p.detach(), weights.temperature)
            self._stn(softened, label, losses, prefix + "refined", scale * weights.refined)
            if p.grad is not None:
                seed = seed + p.grad
        logits.backward(seed)
        if shape_code is z_i:  # no decoupler: the two codes are one, and so is their gradient
            z_i.grad = z_i.grad + z_s.grad
        else:
            shape_code.backward(z_s.grad)
        image_code.backward(z_i.grad)
        return Codes(z_i.detach(), image_gradient, decoded, z_s.detach(), shape_gradient, p.detach())

    def _image_branch(
        self, z_i: Tensor, image: Tensor, losses: dict[str, Tensor], prefix: str, choice: StepChoice | None
    ) -> tuple[Tensor | None, Tensor]:
        """Reconstruct, differentiate, and keep the gradient at the image code if a mask ranks by it."""
        weights, decoder = self.settings.losses, self.networks.image_decoder
        needed = choice is not None and choice.image is not None and choice.image.needs_gradient
        with self._probed(decoder, needed):
            decoded = decoder(z_i)
        term = reconstruction(decoded, image)
        losses[prefix + "reconstruction"] = term.detach()
        gradient = None
        if needed and self.settings.latent.score == "score":
            (gradient,) = torch.autograd.grad((wide(decoded) * image).mean(), z_i, retain_graph=True)
        ((weights.hard if prefix else 1.0) * weights.reconstruction * term).backward()
        if needed and gradient is None:
            gradient = z_i.grad.clone()  # type: ignore[union-attr]  # a positive factor changes no rank
        return gradient, decoded.detach()

    def _shape_gradient(self, logits: Tensor, z_s: Tensor, seed: Tensor, label: Tensor) -> Tensor:
        """Gradient at the shape code of the FTN's own loss, without the STN's share, for masks to rank by."""
        if self.settings.latent.score == "score":
            truth = one_hot(label, self.networks.classes, logits)
            seed = truth / truth.numel()
        return torch.autograd.grad(logits, z_s, seed.to(logits.dtype), retain_graph=True)[0]

    def _stn(
        self, inputs: Tensor, label: Tensor, losses: dict[str, Tensor], name: str, weight: float
    ) -> None:
        """CE(C(inputs), y) and its backward; inputs (B, classes, H, W) sum to 1 over classes."""
        term = cross_entropy(self.networks.refine(inputs), label)
        losses[name] = term.detach()
        (weight * term).backward()

    def _hard_examples(
        self, codes: Codes, image: Tensor, label: Tensor, choice: StepChoice
    ) -> tuple[Tensor | None, Tensor | None, dict[str, Tensor]]:
        """x̂ and p̂ and how much they raised the loss; no gradient reaches the decoders through them."""
        latent, nets = self.settings.latent, self.networks
        x_hat = p_hat = None
        rises = {}
        if choice.image is not None:
            x_hat = decode_masked(
                nets.image_decoder,
                codes.image,
                choice=choice.image,
                gradient=codes.image_gradient,
                settings=latent,
            )
            clean, hard = ((wide(d) - image).square().mean((1, 2, 3)) for d in (codes.decoded, x_hat))
            rises["image"] = rise_by_scheme(choice.image, clean=clean, hard=hard)
            if latent.rescale:
                x_hat = rescale_slices(x_hat)
        if choice.shape is not None:
            p_hat = decode_masked(
                nets.segmentation_decoder,
                codes.shape,
                choice=choice.shape,
                gradient=codes.shape_gradient,
                settings=latent,
            )
            clean, hard = (
                F.cross_entropy(wide(logits), label, reduction="none").mean((1, 2))
                for logits in (codes.logits, p_hat)
            )
            rises["shape"] = rise_by_scheme(choice.shape, clean=clean, hard=hard)
        return x_hat, p_hat, rises

    def _probed(self, decoder: nn.Module, probed: bool) -> AbstractContextManager[None]:
        """The published probe is a second pass through the decoder, which its running statistics record."""
        published = probed and self.settings.latent.norm == "published"
        return recorded_twice(norms(decoder)) if published else nullcontext()

    def _hard_norms(self) -> AbstractContextManager[None]:
        """What the hard pass does to BatchNorm. As published, the image decoder is left out of the rule."""
        rule = self.settings.latent.norm
        nets = self.networks
        if rule == "published":
            ruled = [nets.image_encoder, nets.segmentation_decoder, nets.shape_encoder, nets.shape_decoder]
            return norm_mode(norms(*ruled), record=False, learn=False)
        return norm_mode(norms(nets), record=rule == "shared", learn=rule != "frozen")

    def _total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the terms, for the log: every term has had its backward."""
        weights = self.settings.losses
        total = torch.zeros((), device=next(iter(losses.values())).device)
        for name, term in losses.items():
            weight = getattr(weights, name.removeprefix("hard_"))
            total = total + (weights.hard if name.startswith("hard_") else 1.0) * weight * term
        return total
