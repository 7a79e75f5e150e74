"""Defines the five networks: FTN (image encoder, decoupler, two decoders), STN (shape encoder, decoder)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from coopseg.config.settings import NetworkSettings
from coopseg.errors import CoopsegError
from coopseg.networks.coders import After, Decoder, Decoupler, Encoder, unchanged
from coopseg.networks.norm import Norm

NETWORKS = ("image_encoder", "segmentation_decoder", "image_decoder", "shape_encoder", "shape_decoder")
MULTIPLE = 16


class ImageEncoder(Encoder):
    """Holds the encoder E and the decoupler H, which is the identity if the decoupler is turned off.

    shared: the image code is H(E(x)) too, so both decoders read the shape code.

    >>> import torch
    >>> encoder = ImageEncoder(inputs=1, width=2, decoupler=True)
    >>> image_code = encoder(torch.rand(2, 1, 64, 64))
    >>> image_code.shape, encoder.shape_code(image_code).shape
    (torch.Size([2, 16, 4, 4]), torch.Size([2, 16, 4, 4]))
    """

    def __init__(
        self, inputs: int, width: int, *, decoupler: bool, shared: bool = False, running: bool = False
    ) -> None:
        super().__init__(inputs, width, running=running)
        self.decoupler = Decoupler(8 * width, running=running) if decoupler else nn.Identity()
        self.shared = shared

    def after_stem(self, features: Tensor, after: After = unchanged) -> Tensor:
        """Returns the image code z_i for the stem's features; see `Encoder.after_stem`."""
        code = super().after_stem(features, after)
        return self.decoupler(code) if self.shared else code

    def shape_code(self, image_code: Tensor) -> Tensor:
        """Returns z_s for z_i: the same tensor if the two codes are one."""
        return image_code if self.shared else self.decoupler(image_code)


class StepNetworks(Protocol):
    """Lists what a cooperative step needs of networks; any nn.Module that has it can be trained.

    They may be 2-D or 3-D. classes: number of label values, background included. image_decoder: maps the
    image code to an image (B, channels, *spatial). segmentation_decoder: maps the shape code, followed by the
    skips if there are any, to logits (B, classes, *spatial).

    >>> networks: StepNetworks = Networks(classes=3, width=2)
    >>> networks.code_shapes((8, 1, 64, 64))
    [(8, 16, 4, 4), (8, 16, 4, 4)]
    """

    classes: int

    @property
    def image_decoder(self) -> nn.Module: ...  # noqa: D102

    @property
    def segmentation_decoder(self) -> nn.Module: ...  # noqa: D102

    def encode(self, image: Tensor) -> Sequence[Tensor]:
        """Returns image code, shape code and any skips, (B, C, *spatial) each, of images.

        Skips are features that the segmentation decoder reads beside the shape code. They are masked when it
        is, since the decoder would read around a mask of the code alone.
        """

    def code_shapes(self, image_shape: Sequence[int]) -> Sequence[Sequence[int]]:
        """Returns the shapes of what `encode` gives for images of this shape; masks are drawn for them."""

    def refine(self, probabilities: Tensor) -> Tensor:
        """Returns the STN's logits for probabilities or a one-hot label map (B, classes, *spatial)."""

    def children(self) -> Iterator[nn.Module]:
        """Returns the parts, as every nn.Module does; their normalisation layers follow the step's rules."""


class Networks(nn.Module):
    """Holds FTN and STN for images (B, channels, H, W) in [0, 1]; H and W must be multiples of 16.

    classes: number of label values, background included. width: channels at full resolution; the codes have
    8 times as many. channels: of the images. decoupler: false for a shape code that is the image code.
    shared_code: the image decoder reads the shape code too. norm: "running" to normalise by running
    statistics in training too. kind: "unet" if the segmentation decoder reads the encoder's features at 1/8
    and 1/4 resolution too. Parameter names are those of the golden weights. Raises CoopsegError for a value
    out of range.

    >>> import torch
    >>> networks = Networks(classes=4, width=2).eval()
    >>> heads = networks(torch.rand(1, 1, 64, 64))
    >>> {name: tuple(logits.shape) for name, logits in heads.items()}
    {'FTN': (1, 4, 64, 64), 'FTN+STN': (1, 4, 64, 64)}
    """

    def __init__(
        self,
        *,
        classes: int,
        width: int = 16,
        channels: int = 1,
        decoupler: bool = True,
        shared_code: bool = False,
        norm: Literal["batch", "running"] = "batch",
        kind: Literal["published", "unet"] = "published",
    ) -> None:
        super().__init__()
        NetworkSettings.checked({"width": width, "channels": channels, "norm": norm, "kind": kind})
        running, self.skips = norm == "running", kind == "unet"
        self.classes = classes
        self.image_encoder = ImageEncoder(
            channels, width, decoupler=decoupler, shared=shared_code, running=running
        )
        self.segmentation_decoder = Decoder(classes, width, skips=self.skips, running=running)
        self.image_decoder = Decoder(channels, width, image=True, running=running)
        self.shape_encoder = Encoder(classes, width, running=running)
        self.shape_decoder = Decoder(classes, width, running=running)
        self.apply(initialise)
        for decoder in (self.segmentation_decoder, self.image_decoder, self.shape_decoder):
            nn.init.zeros_(decoder.out.bias)  # type: ignore[arg-type]

    def encode(self, image: Tensor, after: After = unchanged) -> tuple[Tensor, ...]:
        """Returns image code z_i and shape code z_s, both (B, 8 width, H/16, W/16), and the skips of a U-Net.

        Those are (B, 8 width, H/8, W/8) and (B, 4 width, H/4, W/4). after: see `Encoder.forward`. Raises
        CoopsegError for a size that cannot be halved four times.
        """
        check_size(image)
        return self._codes(self.image_encoder, image, after)

    def codes_after_stem(self, features: Tensor) -> tuple[Tensor, ...]:
        """Does the same, given the features of the image encoder's stem, (B, width, H, W)."""
        return self._codes(self.image_encoder.after_stem, features, unchanged)

    def _codes(
        self, encoder: Callable[[Tensor, After], Tensor], x: Tensor, after: After
    ) -> tuple[Tensor, ...]:
        """Returns what `encode` does. encoder: maps x to the image code, calling `after` on the way."""
        found: dict[str, Tensor] = {}

        def keep(layer: str, features: Tensor) -> Tensor:
            found[layer] = after(layer, features)
            return found[layer]

        image_code = encoder(x, keep)
        skips = [found[layer] for layer in self.image_encoder.SKIPS] if self.skips else []
        return image_code, self.image_encoder.shape_code(image_code), *skips

    def code_shapes(self, image_shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Returns the shapes of what `encode` gives for images of shape (B, channels, H, W)."""
        batch, _, height, width = image_shape
        deep = self.image_encoder.head.conv.out_channels
        levels = [(deep, 16), (deep, 16), *([(deep, 8), (deep // 2, 4)] if self.skips else [])]
        return [(batch, channels, height // by, width // by) for channels, by in levels]

    def fast(self, image: Tensor) -> Tensor:
        """Returns the FTN's logits p (B, classes, H, W)."""
        return self.segmentation_decoder(*self.encode(image)[1:])

    def refine(self, probabilities: Tensor) -> Tensor:
        """Returns the STN's logits for probabilities or a one-hot label map (B, classes, H, W)."""
        return self.shape_decoder(self.shape_encoder(probabilities))

    def forward(self, image: Tensor, *, refinements: int = 1, temperature: float = 2.0) -> dict[str, Tensor]:
        """Returns each head's logits; every refinement feeds the STN the softmax of the previous result."""
        check_size(image)
        features = self.image_encoder.stem(image)
        return self.after_stem(features, refinements=refinements, temperature=temperature)

    def after_stem(
        self, features: Tensor, *, refinements: int = 1, temperature: float = 2.0
    ) -> dict[str, Tensor]:
        """Does the same as `forward`, given the features of the image encoder's stem, (B, width, H, W)."""
        logits = self.segmentation_decoder(*self.codes_after_stem(features)[1:])
        return refined(logits, self.refine, refinements=refinements, temperature=temperature)


def refined(
    logits: Tensor, refine: Callable[[Tensor], Tensor], *, refinements: int, temperature: float
) -> dict[str, Tensor]:
    """Returns each head's logits: the FTN's, and what `refine` makes of their softmax, again and again."""
    heads = {"FTN": logits}
    for _ in range(refinements):
        logits = refine(torch.softmax(logits / temperature, 1))
        heads["FTN+STN"] = logits
    return heads


def check_size(image: Tensor) -> None:
    """Raise CoopsegError for images that are not (B, channels, H, W) or cannot be halved four times."""
    if image.ndim != 4 or image.shape[2] % MULTIPLE or image.shape[3] % MULTIPLE:
        raise CoopsegError(
            f"images must be (B, channels, H, W) with H and W multiples of {MULTIPLE}, "
            f"found {tuple(image.shape)}: pad or crop them (cases.size)"
        )


def initialise(module: nn.Module) -> None:
    """Initialises as published: convolutions Kaiming normal (fan in, gain √2), norm weights N(1, 0.02)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    elif isinstance(module, Norm):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
