"""Implements the image transforms: what each is, and those that need no network."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from inspect import get_annotations
from typing import Any, ClassVar

import torch
from torch import Tensor

from coopseg.config import rivals as settings
from coopseg.config.section import Section
from coopseg.errors import CoopsegError
from coopseg.rivals import afa_mixup, bigaug, gin, heavy, rand_mwm, slaug, styles
from coopseg.rivals.randconv import convolve, sample_convolutions
from coopseg.training.losses import one_hot, rescale_slices
from coopseg.training.passes import Truth
from coopseg.training.random_networks import sample_networks, transform
from coopseg.training.rival import Batch, ImageRival

Generator = torch.Generator | None
Pair = tuple[Tensor, Tensor]  # image and label


class Transform:
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

    def __call__(self, image: Tensor, label: Tensor, generator: Generator = None) -> Pair:
        """Returns the new image (B, C, H, W) and its label."""
        if image.ndim != 4 or label.shape != (len(image), *image.shape[2:]):
            raise CoopsegError(
                "an image (B, C, H, W) and a label (B, H, W) are needed, found "
                f"{tuple(image.shape)} and {tuple(label.shape)}"
            )
        changed, target = self._change(image, label, generator)
        return changed.detach(), target

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
        raise NotImplementedError


class RivalTransform(Transform, of=Section):
    """Applies an `ImageRival` as its row does. networks: None if it needs none."""

    rival: ClassVar[type[ImageRival]]
    networks: Any = None

    def __init_subclass__(cls, *, rival: type[ImageRival], **options: Any) -> None:
        cls.rival = rival
        super().__init_subclass__(**options)

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
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


class RandMWM(RivalTransform, rival=rand_mwm.RandMwm, of=settings.RandMwmSettings):
    """Fills random windows with noise, or all but the windows (Zhou et al. 2019, Models Genesis).

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = RandMWM(p=1.0, windows=3)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape, bool((changed != image).any())
    (torch.Size([2, 1, 64, 64]), True)
    """


class BigAug(RivalTransform, rival=bigaug.BigAug, of=settings.BigAugSettings):
    """Applies nine operations on intensities and shapes, each at random (Zhang et al. 2020, BigAug).

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.ones(2, 64, 64, dtype=torch.long)
    >>> changed, moved = BigAug(p=0.5)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape, moved.shape
    (torch.Size([2, 1, 64, 64]), torch.Size([2, 64, 64]))
    """


class Heavy(RivalTransform, rival=heavy.Heavy, of=settings.HeavySettings):
    """Applies the many operations of nnU-Net's DA5, each at random.

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.ones(2, 64, 64, dtype=torch.long)
    >>> changed, moved = Heavy(p_noise=1.0)(image, label, torch.Generator().manual_seed(0))
    >>> float(changed.min()), float(changed.max())
    (0.0, 1.0)
    """


class RandConv(Transform, of=settings.RandConvSettings, without=("copies", "consistency")):
    """Convolves the batch with one random kernel, which changes texture (Xu et al. 2021).

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = RandConv(kernels=(3, 5))(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
        drawn = sample_convolutions(
            image, 1, self.settings.kernels, mix=self.settings.mix, generator=generator
        )
        return rescale_slices(convolve(image, drawn)[0]), label


class GIN(Transform, of=settings.GinSettings, without=("dice", "consistency")):
    """Passes each image through a random network of its own (Ouyang et al. 2022).

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = GIN(layers=4)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
        chosen = self.settings
        drawn = sample_networks(image, len(image), generator, layers=chosen.layers, channels=chosen.channels)
        return rescale_slices(transform(image, drawn)), label


class GINIPA(Transform, of=settings.GinIpaSettings, without=("dice", "consistency")):
    """Blends two random networks' images of each image by a smooth random map (Ouyang et al. 2022).

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = GINIPA(spacing=0.25)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
        rival = gin.GinIpa(self.settings)
        return rescale_slices(rival.copies(image, rival.sample(image, (), generator))[0]), label


class AFA(Transform, of=settings.AfaSettings, without=("alpha",)):
    """Adds one planar wave to each image (Vaish et al. 2024).

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = AFA(strength=5.0)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
        drawn = afa_mixup.sample_waves(image, self.settings.strength, generator)
        return rescale_slices(image + afa_mixup.waves(drawn, image.shape[2:])), label


class MixUp(Transform, of=settings.AfaSettings, without=("strength",), first="classes"):
    """Mixes each image with the one before it (Zhang et al. 2018), all by one share.

    classes: number of label values. The label that it returns is mixed too: (B, classes, H, W), the shares of
    the classes, which `torch.nn.functional.cross_entropy` takes.

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.tensor([0, 2])[:, None, None].expand(2, 64, 64)
    >>> changed, shares = MixUp(3, alpha=0.2)(image, label, torch.Generator().manual_seed(0))
    >>> shares.shape, bool((shares.sum(1) == 1).all())
    (torch.Size([2, 3, 64, 64]), True)
    """

    def __init__(self, classes: int, **keywords: Any) -> None:
        super().__init__(classes, **keywords)
        self.classes = classes

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
        share = styles.sample_beta(self.settings.alpha, 1, generator)[0].to(image)
        shares = afa_mixup.mix(one_hot(label, self.classes, image), share)
        return rescale_slices(afa_mixup.mix(image, share)), shares


class LocationScale(Transform, of=Section, first="by_class"):
    """Maps intensities by random monotone curves (Su et al. 2023), without SLAug's fusion.

    by_class: true for a curve for each class, which makes the local copy of SLAug; false for one curve.

    >>> import torch
    >>> image, label = torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    >>> changed, label = LocationScale(by_class=True)(image, label, torch.Generator().manual_seed(0))
    >>> changed.shape
    torch.Size([2, 1, 64, 64])
    """

    def __init__(self, by_class: bool) -> None:
        super().__init__(by_class)
        self.by_class = by_class

    def _change(self, image: Tensor, label: Tensor, generator: Generator) -> Pair:
        drawn = slaug.Slaug().sample(image, (), generator)
        changed = slaug.copy_by_class(image, label, drawn) if self.by_class else drawn.everywhere(image)
        return rescale_slices(changed), label
