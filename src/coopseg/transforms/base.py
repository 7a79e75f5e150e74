"""Defines what every image transform is: a rival's settings as keywords, and a change of a batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from inspect import get_annotations
from typing import Any, ClassVar

import torch
from torch import Tensor

from coopseg.config.section import Section
from coopseg.errors import CoopsegError
from coopseg.training.losses import rescale_slices
from coopseg.training.passes import Truth
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
