"""Implements MaxStyle: searches the image decoder's styles for the hardest image (Chen et al. 2022).

MixStyle's mixing and DSU's noise are applied after up3, after up4 and on the decoded image; Adam moves the
parameters of both to raise the task loss. What the search decodes is scaled to [0, 1] per slice before the
encoder reads it, so that the search raises the loss of the very image that is trained on. Rescaling to [0, 1]
cancels any style change of a single-channel image, so the style of the decoded image itself is drawn but not
optimised.

BatchNorm is frozen in its hard pass, as published: running statistics are left alone, weights and biases get
no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from coopseg.config.rivals import MaxStyleSettings
from coopseg.networks.coders import Decoder
from coopseg.networks.cooperative import Networks, StepNetworks
from coopseg.rivals.styles import Style, mix, restyle, sample_layers, sample_noise, spread, style_of
from coopseg.training.losses import cross_entropy, rescale_slices, wide
from coopseg.training.rival import Batch, Example, ImageRival, like, own_networks

LAYERS = ("up3", "up4", "out")
BEFORE = ("up1", "up2")


@dataclass(frozen=True, eq=False)
class Composition:
    """Says how a layer is styled. partner: (B,) int64. share: (B,) in [0, 1], λ. noise: (B, C, 1, 1) each."""

    partner: Tensor
    share: Tensor
    noise: Style

    @property
    def parameters(self) -> list[Tensor]:
        """Returns the parameters of the search."""
        return [self.share, self.noise.mean, self.noise.deviation]

    def movable(self) -> Composition:
        """Returns a copy whose parameters take a gradient."""
        share, mean, deviation = (value.clone().requires_grad_() for value in self.parameters)
        return replace(self, share=share, noise=Style(mean, deviation))

    def apply(self, features: Tensor) -> Tensor:
        """Returns features (B, C, H, W) in this style; the gradient flows through the statistics too."""
        own = style_of(features)
        return restyle(features, own, mix(own, self.partner, self.share) + self.noise * spread(own))


Styles = dict[str, Composition]


class MaxStyle(ImageRival):
    """Trains on decoded images in the hardest styles found, as the module's docstring describes."""

    name = "maxstyle"
    norm = "frozen"
    settings: MaxStyleSettings

    def sample(self, image: Tensor, code: Sequence[int], generator: torch.Generator | None) -> Styles:
        """Draws the start of the search for each styled layer: λ from U(0, 1), noise from N(0, 1)."""
        width = code[1] // 8
        channels = {"up3": width, "up4": width, "out": image.shape[1]}
        chosen = sample_layers(LAYERS, self.settings.p, generator)
        drawn = {}
        for layer in LAYERS:
            partner = torch.randperm(len(image), generator=generator).to(image.device, non_blocking=True)
            share = like(torch.rand(len(image), generator=generator), image)
            drawn[layer] = Composition(partner, share, sample_noise(channels[layer], image, generator))
        return {layer: drawn[layer] for layer in LAYERS if layer in chosen}

    def apply(self, batch: Batch, drawn: Styles, networks: StepNetworks) -> Example:
        """Returns x̂, not scaled yet; without styles it is the decoded image of the standard pass."""
        networks = own_networks(networks, self.name)
        if not drawn:
            return Example(wide(decoded_image(batch)), batch.truth)
        fixed = decode_to(next(iter(drawn)), networks.image_decoder, batch)
        found = self.search(fixed, drawn, batch, networks)
        with torch.no_grad():
            return Example(wide(decode_from(fixed, found, networks.image_decoder)), batch.truth)

    def search(self, fixed: Tensor, drawn: Styles, batch: Batch, networks: Networks) -> Styles:
        """Returns the styles after steps that raise CE(D_s(H(E(x̂))), y). fixed: what `decode_to` returns."""
        # what a style does to the decoded image itself, rescaling it to [0, 1] undoes
        moved = {layer: c.movable() for layer, c in drawn.items() if layer != "out"}
        if not moved:
            return drawn
        parameters = [value for composition in moved.values() for value in composition.parameters]
        optimiser = torch.optim.Adam(parameters, lr=self.settings.learning_rate, maximize=True)
        for _ in range(self.settings.steps):
            image = decode_from(fixed, drawn | moved, networks.image_decoder)
            loss = cross_entropy(networks.fast(rescale_slices(wide(image))), batch.truth.label)
            for value, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                value.grad = gradient
            optimiser.step()
            for composition in moved.values():
                composition.share.data.clamp_(0, 1)
        return drawn | moved


@torch.no_grad()
def decode_to(first: str, decoder: Decoder, batch: Batch) -> Tensor:
    """Returns the output of `first`, the first styled layer, before it is styled: no style affects it."""
    if first == "out":
        return decoded_image(batch)
    features = batch.codes.image
    for layer in (*BEFORE, *LAYERS[: LAYERS.index(first) + 1]):
        features = _run(layer, decoder, features)
    return features


def decoded_image(batch: Batch) -> Tensor:
    """Returns x' of the standard pass; the settings make sure that there is one."""
    assert batch.codes.decoded is not None
    return batch.codes.decoded


def decode_from(features: Tensor, styles: Styles, decoder: Decoder) -> Tensor:
    """Decodes what `decode_to` returns, with the styles applied, to the image (B, C, H, W)."""
    first, *_ = styles
    features = styles[first].apply(features)
    for layer in LAYERS[LAYERS.index(first) + 1 :]:
        features = _run(layer, decoder, features)
        features = styles[layer].apply(features) if layer in styles else features
    return features


def _run(layer: str, decoder: Decoder, features: Tensor) -> Tensor:
    return torch.sigmoid(decoder.out(features)) if layer == "out" else getattr(decoder, layer)(features)
