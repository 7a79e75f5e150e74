"""Networks of other libraries, small, each with its encode and decode written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from torch import Tensor, nn


@dataclass
class Other:
    """A network, how it encodes an image to features, and how it decodes them, the deepest first."""

    network: nn.Module
    image: Tensor
    encode: Callable[[Tensor], list[Tensor]]
    decode: Callable[[Sequence[Tensor]], Tensor]


def monai_unet(dims: int, channels: int, units: int) -> Other:
    network = UNet(dims, channels, 3, (4, 8, 16), (2, 2), num_res_units=units)
    parts: Any = network.model
    down, connection, up = parts
    inner_down, inner, inner_up = connection.submodule

    def encode(image: Tensor) -> list[Tensor]:
        high = down(image)
        low = inner_down(high)
        return [inner.submodule(low), low, high]

    def decode(features: Sequence[Tensor]) -> Tensor:
        deep, low, high = features
        found: Tensor = up(torch.cat([high, inner_up(torch.cat([low, deep], 1))], 1))
        return found

    return Other(network, torch.rand(3, channels, *[16] * dims), encode, decode)


def segresnet(dims: int, channels: int) -> Other:
    network = SegResNet(dims, 8, channels, 3, blocks_down=(1, 1, 1), blocks_up=(1, 1))

    def encode(image: Tensor) -> list[Tensor]:
        return list(reversed(network.encode(image)[1]))

    def decode(features: Sequence[Tensor]) -> Tensor:
        found: Tensor = network.decode(features[0], list(features))
        return found

    return Other(network, torch.rand(3, channels, *[16] * dims), encode, decode)


def dynunet(dims: int) -> Other:
    network = DynUNet(dims, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16])
    outer: Any = network.skip_layers
    inner = outer.next_layer

    def encode(image: Tensor) -> list[Tensor]:
        high = outer.downsample(image)
        low = inner.downsample(high)
        return [inner.next_layer(low), low, high]

    def decode(features: Sequence[Tensor]) -> Tensor:
        deep, low, high = features
        found: Tensor = network.output_block(outer.upsample(inner.upsample(deep, low), high))
        return found

    return Other(network, torch.rand(3, 1, *[16] * dims), encode, decode)


def nnunet(kind: type[nn.Module], dims: int, channels: int, *counts: Any) -> Other:
    conv, norm = ((nn.Conv2d, nn.InstanceNorm2d), (nn.Conv3d, nn.InstanceNorm3d))[dims - 2]
    network: Any = kind(
        channels, 3, (4, 8, 16), conv, 3, (1, 2, 2), counts[0], 3, counts[1], conv_bias=True, norm_op=norm,
        norm_op_kwargs={"affine": True}, nonlin=nn.LeakyReLU,
    )  # fmt: skip

    def encode(image: Tensor) -> list[Tensor]:
        return list(reversed(network.encoder(image)))

    def decode(features: Sequence[Tensor]) -> Tensor:
        found: Tensor = network.decoder(list(reversed(features)))
        return found

    return Other(network, torch.rand(3, channels, *[16] * dims), encode, decode)


class StandIn(nn.Module):
    """Has the interface of segmentation_models_pytorch: the encoder's list begins with the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = StandInEncoder(), StandInDecoder()
        self.segmentation_head = nn.Conv2d(4, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.segmentation_head(self.decoder(self.encoder(image)))
        return found


class StandInEncoder(nn.Module):
    """Halves the image twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        high = self.first(image).relu()
        return [image, high, self.second(high).relu()]


class StandInDecoder(nn.Module):
    """Reads all but the first of the encoder's list."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first = nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 4, 2, 2)
        self.second = nn.ConvTranspose2d(8, 4, 2, 2)

    def forward(self, features: list[Tensor]) -> Tensor:
        high, deep = features[1:]
        found: Tensor = self.second(torch.cat([self.first(self.norm(deep)), high], 1))
        return found


def stand_in() -> Other:
    network = StandIn()

    def decode(features: Sequence[Tensor]) -> Tensor:
        found: Tensor = network.segmentation_head(network.decoder([features[0], *reversed(features)]))
        return found

    return Other(network, torch.rand(3, 1, 16, 16), lambda x: network.encoder(x)[:0:-1], decode)


OTHERS: dict[str, Callable[[], Other]] = {
    "MONAI UNet 2-D": lambda: monai_unet(2, 1, 0),
    "MONAI UNet 3-D, two channels": lambda: monai_unet(3, 2, 2),
    "MONAI SegResNet 2-D": lambda: segresnet(2, 1),
    "MONAI SegResNet 3-D, two channels": lambda: segresnet(3, 2),
    "MONAI DynUNet 2-D": lambda: dynunet(2),
    "MONAI DynUNet 3-D": lambda: dynunet(3),
    "nnU-Net PlainConvUNet 2-D": lambda: nnunet(PlainConvUNet, 2, 1, (1, 1, 1), (1, 1)),
    "nnU-Net PlainConvUNet 3-D": lambda: nnunet(PlainConvUNet, 3, 4, (1, 1, 1), (1, 1)),
    "nnU-Net ResidualEncoderUNet 3-D": lambda: nnunet(ResidualEncoderUNet, 3, 1, (1, 1, 1), (1, 1)),
    "segmentation_models_pytorch": stand_in,
}
