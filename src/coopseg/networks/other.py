"""Builds the networks that settings ask for, somebody's own among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from coopseg.config.resolve import load_object
from coopseg.config.settings import OWN_KINDS, NetworkSettings
from coopseg.errors import CoopsegError
from coopseg.networks.coders import Decoder, Encoder
from coopseg.networks.cooperative import Networks, check_size, initialise, refined

CODE = {"monai-unet": "coopseg.networks.other:monai_unet"}


class OtherNetworks(nn.Module):
    """Has any network as its FTN, and the published STN beside it.

    segmenter: maps images (B, channels, H, W) to logits (B, classes, H, W). Where it has its code is not
    known here: the logits stand for both codes, and there is no image decoder. Settings refuse methods that
    mask codes or reconstruct images.

    >>> import torch
    >>> networks = OtherNetworks(nn.Conv2d(1, 3, 3, padding=1), classes=3, width=2)
    >>> {head: tuple(logits.shape) for head, logits in networks(torch.rand(2, 1, 32, 32)).items()}
    {'FTN': (2, 3, 32, 32), 'FTN+STN': (2, 3, 32, 32)}
    """

    def __init__(self, segmenter: nn.Module, *, classes: int, width: int) -> None:
        super().__init__()
        self.classes, self.segmenter = classes, segmenter
        self.shape_encoder = Encoder(classes, width)
        self.shape_decoder = Decoder(classes, width)
        for part in (self.shape_encoder, self.shape_decoder):
            part.apply(initialise)
        nn.init.zeros_(self.shape_decoder.out.bias)  # type: ignore[arg-type]
        self.segmentation_decoder, self.image_decoder = nn.Identity(), NoImageDecoder()

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits twice, in place of image code and shape code."""
        logits = self.fast(image)
        return logits, logits

    def code_shapes(self, image_shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Returns the shapes of what `encode` gives."""
        return [(image_shape[0], self.classes, *image_shape[2:])] * 2

    def fast(self, image: Tensor) -> Tensor:
        """Returns the FTN's logits. Raises CoopsegError if they have another shape than they should."""
        logits = self.segmenter(image)
        wanted = (len(image), self.classes, *image.shape[2:])
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if found != wanted:
            raise CoopsegError(f"network.kind: the network returned {found}, wanted are logits {wanted}")
        return logits

    def refine(self, probabilities: Tensor) -> Tensor:
        """Returns the STN's logits for probabilities or a one-hot label map (B, classes, H, W)."""
        return self.shape_decoder(self.shape_encoder(probabilities))

    def forward(self, image: Tensor, *, refinements: int = 1, temperature: float = 2.0) -> dict[str, Tensor]:
        """Returns each head's logits, as `Networks` does."""
        check_size(image)
        return refined(self.fast(image), self.refine, refinements=refinements, temperature=temperature)


class NoImageDecoder(nn.Module):
    """Stands where the published networks have an image decoder."""

    def forward(self, code: Tensor) -> Tensor:
        """Raises CoopsegError."""
        raise CoopsegError(
            "network.kind: this method needs an image decoder; set network.kind=published or unet"
        )


def make_networks(settings: NetworkSettings, classes: int) -> Networks | OtherNetworks:
    """Builds new networks. This runs the code that `settings.kind` names, if it is a "module:callable".

    Such a callable is called with channels and classes. Raises CoopsegError if that cannot be done.
    """
    values = dict(settings)
    kind = values.pop("kind")
    if kind in OWN_KINDS:
        return Networks(classes=classes, kind=kind, **values)
    make: Callable[..., nn.Module] = load_object(CODE.get(kind, kind))
    segmenter = make(channels=settings.channels, classes=classes)
    if not isinstance(segmenter, nn.Module):
        raise CoopsegError(
            f"network.kind={kind}: returned {type(segmenter).__name__}, wanted is an nn.Module"
        )
    return OtherNetworks(segmenter, classes=classes, width=settings.width)


def monai_unet(*, channels: int, classes: int) -> nn.Module:
    """Returns MONAI's UNet as its 3-D tutorials have it, in 2-D. Raises CoopsegError without MONAI."""
    try:
        from monai.networks.nets.unet import UNet
    except ImportError:
        raise CoopsegError(
            "network.kind=monai-unet needs MONAI; install it by pip install coopseg[monai]"
        ) from None
    return UNet(2, channels, classes, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
