"""Folds networks for evaluation mode: everything that depends on weights alone is computed beforehand.

BatchNorm with running statistics is a factor and a shift for each channel, so it is folded into the
convolution before it. The merged weights of an upsampling convolution (`merge_upsampling`) are computed once.
What is left is convolutions, each with the activation that follows it, sums and nearest-neighbour ×2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.networks.blocks import SLOPE, DownBlock, UpBlock, merge_upsampling
from coopseg.networks.coders import Decoder, Decoupler, Encoder, Stem
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import EPSILON, Norm


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """Applies LeakyReLU in place, but for an export, which takes half as long again to trace it in place."""
    return F.leaky_relu(x, slope, inplace=not torch.compiler.is_exporting())


class Convolution(nn.Module):
    """Applies a convolution of odd size k, padded by k // 2, then LeakyReLU.

    weight: (out, in, k, k). bias: (out,). slope: slope of the LeakyReLU; 0 means ReLU, None no activation.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, stride: int = 1, slope: float | None = None) -> None:
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride = stride
        self.slope = slope

    @classmethod
    def fold(cls, layer: nn.Conv2d, norm: Norm | None = None, *, slope: float | None = None) -> Self:
        """Folds `norm` by its running statistics into `layer`: in float64, stored in the layer's type."""
        assert layer.bias is not None  # all convolutions of `Networks` have one
        weight, bias = (part.detach().to(torch.float64, copy=True) for part in (layer.weight, layer.bias))
        if norm is not None:
            factor = norm.weight.detach().double() * (norm.running_var.double() + EPSILON).rsqrt()
            weight = weight * factor[:, None, None, None]
            bias = (bias - norm.running_mean.double()) * factor + norm.bias.detach().double()
        dtype = layer.weight.dtype
        return cls(cls.arrange(weight).to(dtype), bias.to(dtype), stride=layer.stride[0], slope=slope)

    @staticmethod
    def arrange(weight: Tensor) -> Tensor:
        """Returns the weight in the layout that `forward` needs."""
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in, H, W) to (B, out, H / stride, W / stride)."""
        x = F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.weight.shape[-1] // 2)
        return x if self.slope is None else leaky_relu(x, self.slope)

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """Returns LReLU(convolution(x) + skip), the end of a residual block."""
        return leaky_relu(self(x).add_(skip), SLOPE)


class Upsampling(Convolution):
    """Applies nearest-neighbour ×2 and a 3×3 convolution as one transposed one; weight (in, out, 4, 4)."""

    @staticmethod
    def arrange(weight: Tensor) -> Tensor:
        """Merges the upsampling into the weight of the 3×3 convolution."""
        return merge_upsampling(weight).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in, H, W) to (B, out, 2H, 2W)."""
        x = F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)
        return x if self.slope is None else leaky_relu(x, self.slope)


class Enlarging(Convolution):
    """Does the same as `Upsampling` in two steps, with the weight of the 3×3 convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in, H, W) to (B, out, 2H, 2W)."""
        return super().forward(twice(x))


def twice(x: Tensor) -> Tensor:
    """Upsamples ×2 by nearest neighbour."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Down(nn.Module):
    """Applies a folded `DownBlock`."""

    def __init__(self, block: DownBlock) -> None:
        super().__init__()
        self.down = Convolution.fold(block.down)
        self.conv1 = Convolution.fold(block.conv1, block.norm1, slope=SLOPE)
        self.conv2 = Convolution.fold(block.conv2, block.norm2)
        self.skip = Convolution.fold(block.skip)

    def forward(self, x: Tensor) -> Tensor:
        """Halves the resolution."""
        v = self.down(x)
        return self.conv2.join(self.conv1(v), self.skip(v))


class Up(nn.Module):
    """Applies a folded `UpBlock`."""

    def __init__(self, block: UpBlock, upsampling: type[Convolution]) -> None:
        super().__init__()
        self.conv1 = upsampling.fold(block.conv1, block.norm1, slope=SLOPE)
        self.conv2 = Convolution.fold(block.conv2, block.norm2)
        self.skip = Convolution.fold(block.skip)

    def forward(self, x: Tensor) -> Tensor:
        """Doubles the resolution."""
        return self.conv2.join(self.conv1(x), twice(self.skip(x)))


class Coder(nn.Module):
    """Maps the stem's features to what the decoder reads: the shape code and any skips.

    down: `Down` to 1/2, 1/4, 1/8 and 1/16, and the head. middle: the decoupler. skips: whether the features
    at 1/8 and 1/4 are read too.
    """

    def __init__(self, down: list[nn.Module], middle: list[nn.Module], *, skips: bool) -> None:
        super().__init__()
        self.down, self.middle = nn.ModuleList(down), nn.Sequential(*middle)
        self.skips = skips

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, width, H, W) to the shape code, (B, 8 width, H/16, W/16), followed by the skips."""
        levels = []
        for layer in self.down:
            x = layer(x)
            levels.append(x)
        return [self.middle(x), *(levels[2:0:-1] if self.skips else [])]


class Decoding(nn.Module):
    """Maps codes to logits. skips: folded 1×1 convolutions for the features at 1/8 and 1/4."""

    def __init__(self, up: list[nn.Module], skips: list[Convolution]) -> None:
        super().__init__()
        self.up, self.skips = nn.ModuleList(up), nn.ModuleList(skips)

    def forward(self, x: Tensor, *skips: Tensor) -> Tensor:
        """Maps the shape code and the skips to (B, classes, H, W)."""
        for number, layer in enumerate(self.up):
            x = layer(x)
            if number < len(self.skips):
                x = x + self.skips[number](skips[number])
        return x


class FoldedNetworks(nn.Module):
    """Holds FTN and STN for inference only, in any precision; images and logits are those of `Networks`.

    stem: maps images to the features of the image encoder's first layers. encoder: maps those to the shape
    code and the skips. decoder: maps these to the FTN's logits. refine: maps probabilities to the STN's.
    Weights are buffers: nothing here learns.
    """

    def __init__(self, stem: nn.Sequential, encoder: Coder, decoder: Decoding, refine: nn.Sequential) -> None:
        super().__init__()
        self.stem = stem
        self.encoder, self.decoder = encoder, decoder
        self.refine = refine

    def forward(self, image: Tensor, *, refinements: int = 1, temperature: float = 2.0) -> dict[str, Tensor]:
        """Does the same as `Networks`, with layers in the weights' precision, softmax in float32 at least."""
        features = self.stem(image.to(self.dtype))
        return self.after_stem(features, refinements=refinements, temperature=temperature)

    @property
    def dtype(self) -> torch.dtype:
        """Returns the precision of the weights."""
        return next(self.buffers()).dtype

    def after_stem(
        self, features: Tensor, *, refinements: int = 1, temperature: float = 2.0
    ) -> dict[str, Tensor]:
        """Does the same as `Networks.after_stem`."""
        codes = self.encoder(features.to(self.dtype))
        return self.after_codes(codes, refinements=refinements, temperature=temperature)

    def after_codes(
        self, codes: Sequence[Tensor], *, refinements: int = 1, temperature: float = 2.0
    ) -> dict[str, Tensor]:
        """Does the same, given what the encoder made of the features, masked or as it is."""
        wide = torch.promote_types(self.dtype, torch.float32)
        logits = self.decoder(*codes).to(wide)
        heads = {"FTN": logits}
        for _ in range(refinements):
            logits = self.refine(torch.softmax(logits / temperature, 1).to(self.dtype)).to(wide)
            heads["FTN+STN"] = logits
        return heads


def fold(networks: Networks, *, merge: bool = True) -> FoldedNetworks:
    """Returns networks equal to `networks` in evaluation mode, up to rounding, sharing no memory with them.

    merge: whether upsampling and the convolution after it become one transposed convolution, which takes
    fewer products, but is slow where transposed convolutions are slow. `networks` are left as they are.
    """
    upsampling = Upsampling if merge else Enlarging
    encoder, decoupler = networks.image_encoder, networks.image_encoder.decoupler
    middle = _decoupler(decoupler) if isinstance(decoupler, Decoupler) else []
    decoder, shape = networks.segmentation_decoder, networks.shape_encoder
    down, up = _after_stem(encoder), _decoder(decoder, upsampling)
    skips = [Convolution.fold(skip) for skip in (decoder.skip1, decoder.skip2)] if networks.skips else []
    coder, decoding = Coder(down, middle, skips=networks.skips), Decoding(up, skips)
    refine = nn.Sequential(
        *_stem(shape.stem), *_after_stem(shape), *_decoder(networks.shape_decoder, upsampling)
    )
    return FoldedNetworks(nn.Sequential(*_stem(encoder.stem)), coder, decoding, refine).eval()


def _stem(stem: Stem) -> list[nn.Module]:
    return [
        Convolution.fold(stem.conv1, stem.norm1, slope=SLOPE),
        Convolution.fold(stem.conv2, stem.norm2, slope=SLOPE),
    ]


def _after_stem(encoder: Encoder) -> list[nn.Module]:
    head = encoder.head
    return [
        *(Down(block) for block in (encoder.down1, encoder.down2, encoder.down3, encoder.down4)),
        Convolution.fold(head.conv, head.norm, slope=0.0),
    ]


def _decoupler(decoupler: Decoupler) -> list[nn.Module]:
    return [
        Convolution.fold(decoupler.conv1, decoupler.norm1, slope=SLOPE),
        Convolution.fold(decoupler.conv2, decoupler.norm2, slope=0.0),
    ]


def _decoder(decoder: Decoder, upsampling: type[Convolution]) -> list[nn.Module]:
    blocks = (decoder.up1, decoder.up2, decoder.up3, decoder.up4)
    ups = [Up(block, upsampling) for block in blocks if isinstance(block, UpBlock)]  # image decoders differ
    return [*ups, Convolution.fold(decoder.out)]
