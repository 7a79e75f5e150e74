"""Random convolution: the texture of an image replaced, its shapes kept (Xu et al., ICLR 2021).

Each copy of the batch goes through a kernel of its own, whose size is drawn from {1, 3, 5, 7} and whose
weights are N(0, 1 / (C k²)), and is mixed with the image: x̃ = α x + (1 - α) conv(x), α ~ U(0, 1), scaled
to [0, 1] per slice. The FTN is to say the same of all copies and to restore the image from each: the mean
over the copies of ½ MSE(x̃', x) + λ KL(p_k ‖ p̄), p̄ being the mean of their softmax. The original sums
over the copies and adds CE on a convolved image; as used on these networks for cardiac MR it does neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.rivals import RandConvSettings
from coopseg.rivals.base import Batch, Rival
from coopseg.training.ledger import Ledger
from coopseg.training.losses import reconstruction, rescale_slices, wide
from coopseg.training.passes import Passes, leaf


@dataclass(frozen=True, eq=False)
class Convolutions:
    """The draws for the K copies of a batch of C channels.

    kernels: (K, C, C, k, k) of the largest size there is, a smaller one in the middle of zeros.
    kept: (K,) in [0, 1), the part α of the image itself.
    """

    kernels: Tensor
    kept: Tensor


class RandConv(Rival):
    """RandConv of the results table: reconstruction and consistency of the copies, without CE or STN.

    All copies go through the networks together, so that batch statistics are those of all of them.
    """

    name = "randconv"

    def __init__(self, settings: RandConvSettings) -> None:
        self.settings = settings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Convolutions:
        """See `Rival.sample`."""
        sizes, copies, channels = self.settings.kernels, self.settings.copies, image.shape[1]
        largest = max(sizes)
        picks = torch.randint(len(sizes), (copies,), generator=generator)
        size = torch.tensor(sizes)[picks].view(-1, 1, 1, 1, 1)
        weights = torch.randn(copies, channels, channels, largest, largest, generator=generator)
        from_middle = (torch.arange(largest) - largest // 2).abs()
        inside = torch.maximum(from_middle, from_middle[:, None]) <= size // 2
        kernels = weights * inside / (channels * size.square()).sqrt()
        kept = torch.rand(copies, generator=generator) * self.settings.mix
        return Convolutions(*(t.to(image.device, image.dtype, non_blocking=True) for t in (kernels, kept)))

    def add(self, passes: Passes, batch: Batch, drawn: Convolutions, ledger: Ledger) -> None:
        """One pass of all copies; the graph of each decoder is freed before the next is built."""
        nets, losses = passes.networks, passes.settings.losses
        inputs = rescale_slices(convolve(batch.truth.image, drawn).flatten(0, 1))
        copies = len(drawn.kept)
        image_code = nets.image_encoder(inputs)
        z_i = leaf(image_code)
        term = reconstruction(nets.image_decoder(z_i), batch.truth.image.repeat(copies, 1, 1, 1))
        ledger.add("randconv_reconstruction", term, losses.hard * losses.reconstruction).backward()
        logits = nets.segmentation_decoder(nets.image_encoder.shape_code(z_i))
        term = divergence(logits.unflatten(0, (copies, -1)))
        ledger.add("randconv_consistency", term, losses.hard * self.settings.consistency).backward()
        image_code.backward(z_i.grad)


def convolve(image: Tensor, drawn: Convolutions) -> Tensor:
    """Images (B, C, H, W) -> (K, B, C, H, W), not yet scaled; beyond its border an image is 0."""
    copies, channels, _, size, _ = drawn.kernels.shape
    with torch.autocast(image.device.type, enabled=False):
        convolved = F.conv2d(image, drawn.kernels.flatten(0, 1), padding=size // 2)
    convolved = convolved.unflatten(1, (copies, channels)).transpose(0, 1)
    return torch.lerp(convolved, image, drawn.kept.view(-1, 1, 1, 1, 1))


def divergence(logits: Tensor) -> Tensor:
    """Mean of KL(p_k ‖ p̄) over copies, images and pixels of logits (K, B, classes, H, W). Scalar."""
    log_p = wide(logits).log_softmax(2)
    p = log_p.exp()
    # What flows through p̄ is Σ_k p_k / p̄, the same for every class, and so nothing: it need not be followed.
    # p̄ is above 0 wherever a copy is; only a class that no copy believes in needs the floor.
    log_mean = p.detach().mean(0).clamp_min(torch.finfo(p.dtype).tiny).log()
    return (p * (log_p - log_mean)).sum(2).mean()
