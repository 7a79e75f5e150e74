"""Implements the transforms that work with a network: layers for its features, searches for the hardest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from coopseg.config import rivals as settings
from coopseg.latent.places import find_places
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import frozen_norms
from coopseg.rivals import adversarial, maxstyle, slaug, styles
from coopseg.training.losses import cross_entropy, rescale_slices, soft_dice_loss
from coopseg.training.passes import Codes
from coopseg.transforms.images import Generator, Pair, RivalTransform, Transform


class MixStyle(nn.Module):
    """Mixes the style of features with another sample's, in training mode (Zhou et al. 2021).

    p: probability that a batch is styled, in [0, 1]. alpha: the mixing factor is drawn from Beta(alpha,
    alpha). generator: on the CPU; None for torch's own. Maps (B, C, *spatial) to the same shape; the gradient
    flows through the features, but not through their styles. Raises CoopsegError for a value out of range.

    >>> import torch
    >>> layer = MixStyle(p=1.0, generator=torch.Generator().manual_seed(0))
    >>> features = torch.rand(4, 8, 6, 6, 6)
    >>> bool((layer(features) != features).any()), layer.eval()(features) is features
    (True, True)
    """

    def __init__(self, p: float = 0.5, alpha: float = 0.1, generator: torch.Generator | None = None) -> None:
        super().__init__()
        settings.MixStyleSettings.checked({"p": p, "alpha": alpha})
        self.p, self.alpha, self.generator = p, alpha, generator

    def forward(self, features: Tensor) -> Tensor:
        """Returns features (B, C, *spatial), styled or as they are."""
        if not self.training or torch.rand((), generator=self.generator) >= self.p:
            return features
        return styles.mix_styles(features, styles.sample_mix(features, self.alpha, self.generator))


class DSU(nn.Module):
    """Adds noise to the style of features, scaled to its spread over the batch, in training (Li et al. 2022).

    p: probability that a batch is styled, in [0, 1]. generator: on the CPU; None for torch's own. Maps
    (B, C, *spatial) to the same shape. Raises CoopsegError for a value out of range and for a batch of one.

    >>> import torch
    >>> layer = DSU(p=1.0, generator=torch.Generator().manual_seed(0))
    >>> features = torch.rand(4, 8, 6, 6)
    >>> layer(features).shape, layer.eval()(features) is features
    (torch.Size([4, 8, 6, 6]), True)
    """

    def __init__(self, p: float = 0.5, generator: torch.Generator | None = None) -> None:
        super().__init__()
        settings.DsuSettings.checked({"p": p})
        self.p, self.generator = p, generator

    def forward(self, features: Tensor) -> Tensor:
        """Returns features (B, C, *spatial), styled or as they are."""
        if not self.training or torch.rand((), generator=self.generator) >= self.p:
            return features
        noise = styles.sample_noise(features.shape[1], features, self.generator)
        return styles.disturb_style(features, noise)


@contextmanager
def layer_at(network: nn.Module, layer: nn.Module, at: str | Sequence[str]) -> Iterator[None]:
    """Passes outputs of modules of any network through a layer within the block, as if it stood behind them.

    layer: such as `MixStyle` or `DSU`, which the rows put behind the first blocks of an encoder. at: names of
    modules, as in `network.named_modules()`. The network is the same after the block. Raises CoopsegError for
    a name that is not there.

    >>> import torch
    >>> network, image = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1)), torch.rand(2, 1, 8, 8)
    >>> with layer_at(network, DSU(p=1.0), at="0"):
    ...     styled = network(image)
    >>> torch.equal(styled, network(image))
    False
    """
    with ExitStack() as undo:
        for place in find_places(network, at):
            undo.callback(place.attach(lambda features: [layer(feature) for feature in features]))
        yield


class SLAug(Transform, of=settings.SlaugSettings, without=("warmup",), first="network"):
    """Fuses one curve for all and one for each class, where a network's loss is sensitive (Su et al. 2023).

    network: an nn.Module that maps images (B, C, H, W) to logits (B, classes, H, W); it runs forward and
    backward once, no gradient reaches its parameters, and its norms are left alone.

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
    >>> changed, label = SLAug(network, grid=8)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, network: nn.Module, **keywords: Any) -> None:
        super().__init__(network, **keywords)
        self.network = network

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
        drawn = slaug.Slaug(self.settings).sample(image, (), generator)
        everywhere = drawn.everywhere(image)
        inputs = rescale_slices(everywhere).requires_grad_()
        with torch.enable_grad(), frozen_norms(self.network):
            logits = self.network(inputs)
            loss = cross_entropy(logits, label) + self.settings.dice * soft_dice_loss(logits, label)
            (gradient,) = torch.autograd.grad(loss, inputs)
        share = slaug.saliency(gradient, self.settings.grid)
        return rescale_slices(torch.lerp(slaug.copy_by_class(image, label, drawn), everywhere, share)), label


class Alone:
    """Has a network that maps images to logits look like the FTN of a step."""

    def __init__(self, network: nn.Module) -> None:
        self.segmentation_decoder = network

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the image for both codes."""
        return image, image

    def children(self) -> Iterator[nn.Module]:
        """Returns the network, whose norms the search restricts."""
        yield self.segmentation_decoder


class AdvNoise(
    RivalTransform, rival=adversarial.AdvNoise, of=settings.AdvNoiseSettings, without=("consistency",),
    first="network",
):  # fmt: skip
    """Adds the noise that changes a network's prediction most (Miyato et al. 2018); it is not scaled again.

    network: an nn.Module that maps images (B, C, H, W) to logits (B, classes, H, W). It keeps its mode, no
    gradient reaches its parameters, and it records no statistics.

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
    >>> changed, label = AdvNoise(network, epsilon=0.1)(image, label, torch.Generator().manual_seed(0))
    >>> bool(((changed - image).flatten(1).norm(dim=1) <= 0.1001).all())
    True
    """

    def __init__(self, network: nn.Module, **keywords: Any) -> None:
        super().__init__(network, **keywords)
        self.networks = Alone(network)


class AdvBias(
    RivalTransform, rival=adversarial.AdvBias, of=settings.AdvBiasSettings, without=("consistency",),
    first="network",
):  # fmt: skip
    """Multiplies by the smooth field that changes a network's prediction most (Chen et al. 2020).

    network: an nn.Module that maps images (B, C, H, W) to logits (B, classes, H, W). The search normalises by
    running statistics and records none; no gradient reaches the parameters.

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
    >>> changed, label = AdvBias(network, epsilon=0.4)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, network: nn.Module, **keywords: Any) -> None:
        super().__init__(network, **keywords)
        self.networks = Alone(network)


class MaxStyle(
    RivalTransform, rival=maxstyle.MaxStyle, of=settings.MaxStyleSettings, first="networks"
):  # fmt: skip
    """Decodes the image in the styles that raise the loss most (Chen et al. 2022).

    networks: `coopseg.networks.Networks`, since it works inside their image decoder. No gradient reaches
    their parameters, and their norms are left alone.

    >>> import torch
    >>> from coopseg.networks import Networks
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = MaxStyle(Networks(classes=3, width=2), steps=2)(image, label)
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, networks: Networks, **keywords: Any) -> None:
        super().__init__(networks, **keywords)
        self.networks = networks

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
        with torch.enable_grad(), frozen_norms(self.networks):
            return super()._change(image, label, generator)

    def _code_shape(self, image: Tensor) -> tuple[int, ...]:
        return tuple(self.networks.code_shapes(image.shape)[0])

    @torch.no_grad()
    def _codes(self, image: Tensor) -> Codes:
        z_i, *read = self.networks.encode(image)
        logits = self.networks.segmentation_decoder(*read)
        return Codes(z_i, {}, self.networks.image_decoder(z_i), tuple(read), {}, logits)
