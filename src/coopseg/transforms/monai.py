"""Puts the image transforms into MONAI's dictionary pipelines; needs the extra `monai`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.transforms.transform import MapTransform, RandomizableTransform
from monai.utils.type_conversion import convert_to_dst_type

from coopseg.errors import CoopsegError
from coopseg.transforms.images import MixUp, Transform


class DictTransform(RandomizableTransform, MapTransform):
    """Applies an image transform of this package to one sample of a MONAI pipeline, image and label together.

    transform: such as `coopseg.transforms.GIN()`; `MixUp` needs a batch and is refused. The image is
    (C, H, W) in [0, 1], the label (1, H, W) with whole numbers. prob: how often it is applied, in [0, 1]. The
    draws follow MONAI's `set_random_state` and `set_determinism`. Raises CoopsegError for `MixUp`, and as the
    transform does.

    >>> from coopseg.transforms import GIN
    >>> pipeline = DictTransform(GIN()).set_random_state(0)
    >>> sample = {"image": torch.rand(1, 32, 32), "label": torch.ones(1, 32, 32), "name": "p1"}
    >>> {key: getattr(value, "shape", value) for key, value in pipeline(sample).items()}
    {'image': torch.Size([1, 32, 32]), 'label': torch.Size([1, 32, 32]), 'name': 'p1'}
    """

    def __init__(
        self, transform: Transform, image: str = "image", label: str = "label", *, prob: float = 1.0
    ) -> None:
        MapTransform.__init__(self, [image, label])
        RandomizableTransform.__init__(self, prob)
        if isinstance(transform, MixUp):
            raise CoopsegError("MixUp mixes the images of a batch; apply it to batches, behind the loader")
        self.transform, self.image, self.label = transform, image, label

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Returns the sample with a new image and the label that belongs to it, in their types."""
        sample = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return sample
        generator = torch.Generator().manual_seed(int(self.R.randint(2**31)))
        image, label = (torch.as_tensor(sample[key]) for key in (self.image, self.label))
        found, target = self.transform(image.float()[None], label.long(), generator)
        sample[self.image] = convert_to_dst_type(found[0], sample[self.image])[0]
        sample[self.label] = convert_to_dst_type(target, sample[self.label])[0]
        return sample
