"""Writes the step as it reads in the paper: one graph, contiguous tensors, every operation PyTorch's own.

The reference for speed and for gradients: the same parameters, put through the same equations without any
of the rearrangements of `coopseg.networks` and `coopseg.training.step`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.config.settings import Settings
from coopseg.latent.choice import MaskChoice
from coopseg.latent.masks import LatentMasks
from coopseg.networks.blocks import SLOPE, DownBlock, Residual, TransposedUpBlock
from coopseg.networks.coders import Decoder, Decoupler, Encoder
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import EPSILON, MOMENTUM, Norm, norm_mode
from coopseg.training.losses import rescale_slices
from coopseg.training.step import StepChoice


def normalise(layer: Norm, x: Tensor) -> Tensor:
    """Normalises by the statistics of the batch, with the layer's choices."""
    learned = layer.weight, layer.bias
    weight, bias = learned if layer.learn else (value.detach() for value in learned)
    mean, variance = (layer.running_mean, layer.running_var) if layer.record else (None, None)
    return F.batch_norm(x, mean, variance, weight, bias, training=True, momentum=MOMENTUM, eps=EPSILON)


def lrelu(x: Tensor) -> Tensor:
    """Applies the leaky ReLU of the networks."""
    return F.leaky_relu(x, SLOPE)


def residual(block: Residual, v: Tensor) -> Tensor:
    """Adds the skip connection to two convolutions, each with its norm."""
    body = block.conv2(lrelu(normalise(block.norm1, block.conv1(v))))
    return lrelu(block.skip(v) + normalise(block.norm2, body))


def scale_block(block: nn.Module, x: Tensor) -> Tensor:
    """Applies a down block, or an up block of either kind."""
    if isinstance(block, DownBlock):
        return residual(block, block.down(x))
    if isinstance(block, TransposedUpBlock):
        return residual(block, block.up(x))
    return residual(block, F.interpolate(x, scale_factor=2, mode="nearest"))  # type: ignore[arg-type]


def encode(encoder: Encoder, x: Tensor) -> Tensor:
    """Encodes images (B, C, H, W) as codes (B, C', H/16, W/16)."""
    stem = encoder.stem
    x = lrelu(normalise(stem.norm1, stem.conv1(x)))
    x = lrelu(normalise(stem.norm2, stem.conv2(x)))
    for block in (encoder.down1, encoder.down2, encoder.down3, encoder.down4):
        x = scale_block(block, x)
    return F.relu(normalise(encoder.head.norm, encoder.head.conv(x)))


def decouple(decoupler: Decoupler, z_i: Tensor) -> Tensor:
    """Turns the image code into the shape code."""
    x = lrelu(normalise(decoupler.norm1, decoupler.conv1(z_i)))
    return F.relu(normalise(decoupler.norm2, decoupler.conv2(x)))


def decode(decoder: Decoder, code: Tensor) -> Tensor:
    """Decodes a code as an image in [0, 1] or as logits, whichever the decoder is made for."""
    for block in (decoder.up1, decoder.up2, decoder.up3, decoder.up4):
        code = scale_block(block, code)
    x = decoder.out(code)
    return torch.sigmoid(x) if decoder.image else x


def stn_loss(nets: Networks, inputs: Tensor, label: Tensor) -> Tensor:
    """Returns the cross-entropy of what the STN makes of `inputs`."""
    return F.cross_entropy(decode(nets.shape_decoder, encode(nets.shape_encoder, inputs)), label)


def ftn_loss(
    nets: Networks, settings: Settings, inputs: Tensor, image: Tensor, label: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns CE(p, y) + ½ MSE(x', x) + CE(C(p), y), and the two codes."""
    weights = settings.losses
    z_i = encode(nets.image_encoder, inputs)
    assert isinstance(nets.image_encoder.decoupler, Decoupler)
    z_s = decouple(nets.image_encoder.decoupler, z_i)
    p, decoded = decode(nets.segmentation_decoder, z_s), decode(nets.image_decoder, z_i)
    softened = torch.softmax(p / weights.temperature, 1)
    loss = weights.segmentation * F.cross_entropy(p, label)
    loss = loss + weights.reconstruction * F.mse_loss(decoded, image)
    return loss + weights.refined * stn_loss(nets, softened, label), z_i, z_s


def hard_example(
    decoder: Decoder, code: Tensor, choice: MaskChoice, settings: Settings, loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """Probes the decoder for the gradient at the code, masks the code, decodes it again."""
    code = code.detach().requires_grad_()
    gradient = None
    if choice.needs_gradient:  # the published probe runs in training mode and so records its statistics
        with norm_mode(decoder, record=settings.latent.norm == "published", learn=True):
            (gradient,) = torch.autograd.grad(loss(decode(decoder, code)), code)
    mask = LatentMasks.of(settings.latent).build(choice, code.detach(), gradient)
    with torch.no_grad(), norm_mode(decoder, record=False, learn=True):
        return decode(decoder, code * mask)


def plain_step(
    nets: Networks, settings: Settings, image: Tensor, label: Tensor, choice: StepChoice
) -> dict[str, Tensor | None]:
    """Computes L_std + L_hard (Chen et al. 2021, equations 1 to 3) and its backward."""
    weights, latent = settings.losses, settings.latent
    noisy = (image + weights.input_noise * choice.noise).clamp(0, 1)
    one_hot = F.one_hot(label, nets.classes).permute(0, 3, 1, 2).to(image)
    shape_loss = stn_loss(nets, one_hot, label)  # first, so that running statistics record C(p) last
    loss, z_i, z_s = ftn_loss(nets, settings, noisy, image, label)
    loss = loss + weights.shape * shape_loss
    x_hat = p_hat = None
    if choice.image is not None:
        x_hat = hard_example(
            nets.image_decoder, z_i, choice.image, settings, lambda out: F.mse_loss(out, image)
        )
        x_hat = rescale_slices(x_hat) if latent.rescale else x_hat
    if choice.shape is not None:
        p_hat = hard_example(
            nets.segmentation_decoder, z_s, choice.shape, settings, lambda out: F.cross_entropy(out, label)
        )
    published = latent.norm == "published"
    ruled = [n for n in nets.children() if not (published and n is nets.image_decoder)]
    with norm_mode(*ruled, record=latent.norm == "shared", learn=latent.norm in ("shared", "no_update")):
        if x_hat is not None:
            loss = loss + weights.hard * ftn_loss(nets, settings, x_hat, image, label)[0]
        if p_hat is not None:
            softened = torch.softmax(p_hat / weights.temperature, 1)
            loss = loss + weights.hard * weights.shape * stn_loss(nets, softened, label)
    loss.backward()
    return {"loss": loss.detach(), "x_hat": x_hat, "p_hat": p_hat}
