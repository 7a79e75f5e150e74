"""The rivals' augmentations as transforms for your own training loop: the functions that their rows use.

An image transform is called as `transform(image, label, generator)` on a batch: image (B, C, H, W) in
[0, 1], label (B, H, W) integers, generator a `torch.Generator` on the CPU, or None for torch's own. It
returns a new image and the label that belongs to it, warped with the image if the transform moves anything.
The image is scaled to [0, 1] per slice, as the rows do, except by `AdvNoise`. No gradient flows through a
transform. A call raises CoopsegError for shapes that do not fit, a constructor for values out of range.

`MixStyle` and `DSU` are modules for the features of a network instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from inspect import get_annotations
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from coopseg.config import rivals as settings
from coopseg.config.section import Section
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import frozen_norms
from coopseg.rivals import (
    adv_bias,
    adv_noise,
    afa_mixup,
    bigaug,
    gin,
    heavy,
    maxstyle,
    rand_mwm,
    slaug,
    styles,
)
from coopseg.rivals.randconv import convolve, sample_convolutions
from coopseg.training.losses import cross_entropy, one_hot, rescale_slices, soft_dice_loss
from coopseg.training.passes import Codes, Truth
from coopseg.training.random_networks import sample_networks, transform
from coopseg.training.rival import Batch, ImageRival

__all__ = [
    "AFA", "DSU", "GIN", "GINIPA", "AdvBias", "AdvNoise", "BigAug", "Heavy", "LocationScale", "MaxStyle",
    "MixStyle", "MixUp", "RandConv", "RandMWM", "SLAug",
]  # fmt: skip


class _Transform:
    """Takes the settings of a rival as keywords; `help` and `inspect.signature` list them."""

    section: ClassVar[type[Section]]

    def __init_subclass__(cls, *, of: type[Section], without: Sequence[str] = (), first: str = "") -> None:
        """Describes the keywords. without: those that matter in a row only. first: a positional argument."""
        cls.section = of
        fields = {name: field for name, field in of.model_fields.items() if name not in without}
        hint = get_annotations(cls.__init__).get(first)
        positional = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=hint)
            for name in [first]
            if name
        ]
        types = {name: hint for kind in reversed(of.__mro__) for name, hint in get_annotations(kind).items()}
        keywords = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[name]
            )
            for name, field in fields.items()
        ]
        cls.__signature__ = inspect.Signature([*positional, *keywords])  # type: ignore[attr-defined]
        told = "\n".join(f"    {name}: {field.description}." for name, field in fields.items())
        cls.__doc__ = f"{cls.__doc__}\n{told}\n    "

    def __init__(self, *given: Any, **keywords: Any) -> None:
        inspect.signature(type(self)).bind(*given, **keywords)
        self.settings: Any = self.section.checked(keywords)

    def __call__(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the new image (B, C, H, W) and its label."""
        if image.ndim != 4 or label.shape != (len(image), *image.shape[2:]):
            raise CoopsegError(
                "an image (B, C, H, W) and a label (B, H, W) are needed, found "
                f"{tuple(image.shape)} and {tuple(label.shape)}"
            )
        changed, target = self._change(image, label, generator)
        return changed.detach(), target

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class _RivalTransform(_Transform, of=Section):
    """Applies an `ImageRival` as its row does. networks: None if it needs none."""

    rival: ClassVar[type[ImageRival]]
    networks: Any = None

    def __init_subclass__(cls, *, rival: type[ImageRival], **options: Any) -> None:
        cls.rival = rival
        super().__init_subclass__(**options)

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        rival, code = self.rival(self.settings), self._code_shape(image)
        drawn = rival.sample(image, code, generator)
        batch = Batch(Truth(image, label), self._codes(image), joint=False)
        example = rival.apply(batch, drawn, self.networks)
        changed = rescale_slices(example.inputs) if rival.rescale else example.inputs
        return changed, example.truth.label

    def _code_shape(self, image: Tensor) -> tuple[int, ...]:
        return ()

    def _codes(self, image: Tensor) -> Any:
        return None


class RandMWM(_RivalTransform, rival=rand_mwm.RandMwm, of=settings.RandMwmSettings):
    """Fills random windows with noise, or all but the windows (Zhou et al. 2019, Models Genesis).

    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = RandMWM(p=1.0, windows=3)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape, bool((changed != image).any())
    (torch.Size([2, 1, 64, 64]), True)
    """


class BigAug(_RivalTransform, rival=bigaug.BigAug, of=settings.BigAugSettings):
    """Applies nine operations on intensities and shapes, each at random (Zhang et al. 2020, BigAug).

    >>> image, label = torch.rand(2, 1, 64, 64), torch.ones(2, 64, 64, dtype=torch.long)
    >>> changed, moved = BigAug(p=0.5)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape, moved.shape
    (torch.Size([2, 1, 64, 64]), torch.Size([2, 64, 64]))
    """


class Heavy(_RivalTransform, rival=heavy.Heavy, of=settings.HeavySettings):
    """Applies the many operations of nnU-Net's DA5, each at random.

    >>> image, label = torch.rand(2, 1, 64, 64), torch.ones(2, 64, 64, dtype=torch.long)
    >>> changed, moved = Heavy(p_noise=1.0)(image, label, torch.Generator().manual_seed(0))
    >>> float(changed.min()), float(changed.max())
    (0.0, 1.0)
    """


class RandConv(_Transform, of=settings.RandConvSettings, without=("copies", "consistency")):
    """Convolves the batch with one random kernel, which changes texture (Xu et al. 2021).

    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = RandConv(kernels=(3, 5))(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        drawn = sample_convolutions(
            image, 1, self.settings.kernels, mix=self.settings.mix, generator=generator
        )
        return rescale_slices(convolve(image, drawn)[0]), label


class GIN(_Transform, of=settings.GinSettings, without=("dice", "consistency")):
    """Passes each image through a random network of its own (Ouyang et al. 2022).

    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = GIN(layers=4)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        chosen = self.settings
        drawn = sample_networks(image, len(image), generator, layers=chosen.layers, channels=chosen.channels)
        return rescale_slices(transform(image, drawn)), label


class GINIPA(_Transform, of=settings.GinIpaSettings, without=("dice", "consistency")):
    """Blends two random networks' images of each image by a smooth random map (Ouyang et al. 2022).

    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = GINIPA(spacing=0.25)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        rival = gin.GinIpa(self.settings)
        return rescale_slices(rival.copies(image, rival.sample(image, (), generator))[0]), label


class AFA(_Transform, of=settings.AfaSettings, without=("alpha",)):
    """Adds one planar wave to each image (Vaish et al. 2024).

    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = AFA(strength=5.0)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        drawn = afa_mixup.sample_waves(image, self.settings.strength, generator)
        return rescale_slices(image + afa_mixup.waves(drawn, image.shape[2:])), label


class MixUp(_Transform, of=settings.AfaSettings, without=("strength",), first="classes"):
    """Mixes each image with the one before it (Zhang et al. 2018), all by one share.

    classes: number of label values. The label that it returns is mixed too: (B, classes, H, W), the shares of
    the classes, which `torch.nn.functional.cross_entropy` takes.

    >>> image, label = torch.rand(2, 1, 64, 64), torch.tensor([0, 2])[:, None, None].expand(2, 64, 64)
    >>> changed, shares = MixUp(3, alpha=0.2)(image, label, torch.Generator().manual_seed(0))
    >>> shares.shape, bool((shares.sum(1) == 1).all())
    (torch.Size([2, 3, 64, 64]), True)
    """

    def __init__(self, classes: int, **keywords: Any) -> None:
        super().__init__(classes, **keywords)
        self.classes = classes

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        share = styles.sample_beta(self.settings.alpha, 1, generator)[0].to(image)
        shares = afa_mixup.mix(one_hot(label, self.classes, image), share)
        return rescale_slices(afa_mixup.mix(image, share)), shares


class LocationScale(_Transform, of=Section, first="by_class"):
    """Maps intensities by random monotone curves (Su et al. 2023), without SLAug's fusion.

    by_class: true for a curve for each class, which makes the local copy of SLAug; false for one curve.

    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = LocationScale(by_class=True)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, by_class: bool) -> None:
        super().__init__(by_class)
        self.by_class = by_class

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        drawn = slaug.Slaug().sample(image, (), generator)
        changed = _by_class(image, label, drawn) if self.by_class else drawn.everywhere(image)
        return rescale_slices(changed), label


def _by_class(image: Tensor, label: Tensor, drawn: slaug.Copies) -> Tensor:
    return slaug.by_class(image, label, drawn.of(int(label.max()) + 1))


class SLAug(_Transform, of=settings.SlaugSettings, without=("warmup",), first="network"):
    """Fuses one curve for all and one for each class, where a network's loss is sensitive (Su et al. 2023).

    network: an nn.Module that maps images (B, C, H, W) to logits (B, classes, H, W); it runs forward and
    backward once, no gradient reaches its parameters, and its norms are left alone.

    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
    >>> changed, label = SLAug(network, grid=8)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, network: nn.Module, **keywords: Any) -> None:
        super().__init__(network, **keywords)
        self.network = network

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        drawn = slaug.Slaug(self.settings).sample(image, (), generator)
        everywhere = drawn.everywhere(image)
        inputs = rescale_slices(everywhere).requires_grad_()
        with torch.enable_grad(), frozen_norms(self.network):
            logits = self.network(inputs)
            loss = cross_entropy(logits, label) + self.settings.dice * soft_dice_loss(logits, label)
            (gradient,) = torch.autograd.grad(loss, inputs)
        share = slaug.saliency(gradient, self.settings.grid)
        return rescale_slices(torch.lerp(_by_class(image, label, drawn), everywhere, share)), label


class _Alone:
    """Has a network that maps images to logits look like the FTN of a step."""

    def __init__(self, network: nn.Module) -> None:
        self.segmentation_decoder = network

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image, image

    def children(self) -> Iterator[nn.Module]:
        yield self.segmentation_decoder


class AdvNoise(
    _RivalTransform, rival=adv_noise.AdvNoise, of=settings.AdvNoiseSettings, without=("consistency",),
    first="network",
):  # fmt: skip
    """Adds the noise that changes a network's prediction most (Miyato et al. 2018); it is not scaled again.

    network: an nn.Module that maps images (B, C, H, W) to logits (B, classes, H, W). It keeps its mode, no
    gradient reaches its parameters, and it records no statistics.

    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
    >>> changed, label = AdvNoise(network, epsilon=0.1)(image, label, torch.Generator().manual_seed(0))
    >>> bool(((changed - image).flatten(1).norm(dim=1) <= 0.1001).all())
    True
    """

    def __init__(self, network: nn.Module, **keywords: Any) -> None:
        super().__init__(network, **keywords)
        self.networks = _Alone(network)


class AdvBias(
    _RivalTransform, rival=adv_bias.AdvBias, of=settings.AdvBiasSettings, without=("consistency",),
    first="network",
):  # fmt: skip
    """Multiplies by the smooth field that changes a network's prediction most (Chen et al. 2020).

    network: an nn.Module that maps images (B, C, H, W) to logits (B, classes, H, W). The search normalises by
    running statistics and records none; no gradient reaches the parameters.

    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
    >>> changed, label = AdvBias(network, epsilon=0.4)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, network: nn.Module, **keywords: Any) -> None:
        super().__init__(network, **keywords)
        self.networks = _Alone(network)


class MaxStyle(
    _RivalTransform, rival=maxstyle.MaxStyle, of=settings.MaxStyleSettings, first="networks"
):  # fmt: skip
    """Decodes the image in the styles that raise the loss most (Chen et al. 2022).

    networks: `coopseg.networks.Networks`, since it works inside their image decoder. No gradient reaches
    their parameters, and their norms are left alone.

    >>> from coopseg.networks import Networks
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = MaxStyle(Networks(classes=3, width=2), steps=2)(image, label)
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, networks: Networks, **keywords: Any) -> None:
        super().__init__(networks, **keywords)
        self.networks = networks

    def _change(
        self, image: Tensor, label: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad(), frozen_norms(self.networks):
            return super()._change(image, label, generator)

    def _code_shape(self, image: Tensor) -> tuple[int, ...]:
        return tuple(self.networks.code_shape(image.shape))

    @torch.no_grad()
    def _codes(self, image: Tensor) -> Codes:
        z_i, z_s = self.networks.encode(image)
        logits = self.networks.segmentation_decoder(z_s)
        return Codes(z_i, {}, self.networks.image_decoder(z_i), z_s, {}, logits)


class MixStyle(nn.Module):
    """Mixes the style of features with another sample's, in training mode (Zhou et al. 2021).

    p: probability that a batch is styled, in [0, 1]. alpha: the mixing factor is drawn from Beta(alpha,
    alpha). generator: on the CPU; None for torch's own. Maps (B, C, *spatial) to the same shape; the gradient
    flows through the features, but not through their styles. Raises CoopsegError for a value out of range.

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
    """Adds noise to the style of features, as wide as it varies over the batch, in training (Li et al. 2022).

    p: probability that a batch is styled, in [0, 1]. generator: on the CPU; None for torch's own. Maps
    (B, C, *spatial) to the same shape. Raises CoopsegError for a value out of range and for a batch of one.

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
