"""The rivals' augmentations as transforms for your own training loop: the functions that their rows use.

An image transform is called as `transform(image, label, generator)` on a batch: image (B, C, H, W) in
[0, 1], label (B, H, W) integers, generator a `torch.Generator` on the CPU, or None for torch's own. It
returns a new image and the label that belongs to it, warped with the image if the transform moves anything.
The image is scaled to [0, 1] per slice, as the rows do, except by `AdvNoise`. No gradient flows through a
transform. A call raises CoopsegError for shapes that do not fit, a constructor for values out of range.

`MixStyle` and `DSU` are modules for the features of a network instead; `layer_at` puts them into any network.
`coopseg.transforms.monai.DictTransform` puts an image transform into a pipeline of MONAI.
"""

from coopseg.transforms.images import (
    AFA,
    GIN,
    GINIPA,
    BigAug,
    Heavy,
    LocationScale,
    MixUp,
    RandConv,
    RandMWM,
)
from coopseg.transforms.networks import DSU, AdvBias, AdvNoise, MaxStyle, MixStyle, SLAug, layer_at

__all__ = [
    "AFA", "DSU", "GIN", "GINIPA", "AdvBias", "AdvNoise", "BigAug", "Heavy", "LocationScale", "MaxStyle",
    "MixStyle", "MixUp", "RandConv", "RandMWM", "SLAug", "layer_at",
]  # fmt: skip
