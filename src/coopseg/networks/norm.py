"""Normalises with explicit choices: whose statistics, whether they are recorded, and what learns.

The hard pass of cooperative training must say what it does to BatchNorm (Chen et al. 2021 leave it to
their code), so every choice is an attribute here instead of a side effect of `train()` and `eval()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.errors import CoopsegError
from coopseg.networks.native import fits, normalise

EPSILON = 1e-5
MOMENTUM = 0.1
VALUES_AT_ONCE = 2**19  # few enough for a processor's cache


class Norm(nn.Module):
    """Normalises (B, C, H, W) as torch.nn.BatchNorm2d does, with its choices as attributes.

    record: update the running statistics from the batch (training mode only).
    learn: let gradient reach weight and bias.
    running: normalise by the running statistics even in training mode.
    scan_statistics: None, or k: in evaluation mode, normalise by (1 - s) times the running statistics plus
    s times those of x, with s = B / (B + k). x is then one volume and B its slices.

    >>> norm = Norm(8)
    >>> norm.record = False
    >>> y = norm(torch.randn(4, 8, 6, 6), slope=0.2)
    >>> y.shape, float(norm.running_mean.abs().max())
    (torch.Size([4, 8, 6, 6]), 0.0)
    """

    momentum = MOMENTUM

    def __init__(self, channels: int, *, running: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.record = True
        self.learn = True
        self.running = running
        self.scan_statistics: float | None = None

    @property
    def centres(self) -> bool:
        """Tells whether the batch's mean is subtracted; that cancels what was added to every pixel before."""
        return self.training and not self.running

    def forward(
        self,
        x: Tensor,
        *,
        slope: float = 1.0,
        offset: Tensor | None = None,
        skip: Tensor | None = None,
        skip_bias: Tensor | None = None,
    ) -> Tensor:
        """Returns LeakyReLU(norm(x + offset) + skip + skip_bias): (B, C, H, W) -> (B, C, H, W).

        slope: slope of the LeakyReLU; 1 means none, 0 a ReLU. offset: (C,), the bias that the preceding
        convolution skipped because this norm would cancel it (`centres`); it affects the running mean only.
        skip: like x. skip_bias: (C,). Statistics are float32 even for bfloat16 x, and float64 for float64 x.
        """
        weight = self.weight if self.learn else self.weight.detach()
        bias = self.bias if self.learn else self.bias.detach()
        if skip_bias is not None:
            bias = bias + skip_bias
        if not self.centres:
            y = F.batch_norm(x, *self._statistics(x), weight, bias, eps=EPSILON)
        elif fits(x, skip):
            y, mean, variance = normalise(x, skip, weight, bias, epsilon=EPSILON, slope=slope)
            self._record(mean, variance, x.numel() // x.shape[1], offset)
            return y
        else:
            y = self._normalise(x, weight, bias, offset)
        if skip is not None:
            y = y.add_(skip)
        return y if slope == 1 else F.leaky_relu(y, slope, inplace=True)

    @torch.no_grad()
    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns running mean and variance, each (C,), mixed with x's own if `scan_statistics` applies."""
        if self.training or self.scan_statistics is None:
            return self.running_mean, self.running_var
        share = len(x) / (len(x) + self.scan_statistics)
        mean, variance = own_statistics(x, self.running_mean.dtype)
        return self.running_mean.lerp(mean, share), self.running_var.lerp(variance, share)

    def _normalise(self, x: Tensor, weight: Tensor, bias: Tensor, offset: Tensor | None) -> Tensor:
        if not self.record:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=EPSILON)
        statistics = self.running_mean, self.running_var
        y = F.batch_norm(x, *statistics, weight, bias, training=True, momentum=MOMENTUM, eps=EPSILON)
        if offset is not None:
            self.running_mean.data.add_(offset.detach(), alpha=MOMENTUM)  # through .data: see recorded_twice
        return y

    @torch.no_grad()
    def _record(self, mean: Tensor, variance: Tensor, count: int, offset: Tensor | None) -> None:
        if not self.record:
            return
        self.running_mean.data.lerp_(mean if offset is None else mean + offset, MOMENTUM)
        self.running_var.data.lerp_(variance * (count / (count - 1)), MOMENTUM)


def own_statistics(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns mean and biased variance, (C,) each, of x's channels, (B, C, H, W), over slices and pixels.

    dtype: type of the two. Merging the statistics of single slices loses no digits and never copies all of x;
    torch.var_mean over all of x takes seven times as long on a processor.
    """
    means, variances = [], []
    for part in x.split(max(1, VALUES_AT_ONCE // x[0].numel())):
        wide = part.to(dtype)
        mean = wide.mean((2, 3), keepdim=True)
        means.append(mean.flatten(1))
        variances.append((wide - mean).square_().mean((2, 3)))
    of_slices = torch.cat(means)
    return of_slices.mean(0), torch.cat(variances).mean(0) + of_slices.var(0, correction=0)


def norms(*networks: nn.Module) -> list[Norm]:
    """Returns all norm layers of this package in the networks, in order."""
    return [layer for layer in norm_layers(*networks) if isinstance(layer, Norm)]


def norm_layers(*modules: nn.Module) -> list[nn.Module]:
    """Returns all normalisation layers in the modules, torch's and this package's, in order."""
    return [layer for module in modules for layer in module.modules() if isinstance(layer, KINDS)]


@contextmanager
def norm_mode(*modules: nn.Module, record: bool, learn: bool, evaluate: bool = False) -> Iterator[None]:
    """Restricts, within the block, what the normalisation layers in `modules` do, whoever wrote them.

    record: false to leave running statistics and num_batches_tracked alone. learn: false to keep gradient
    from weight and bias. evaluate: normalise as in evaluation mode. A block never allows what a block around
    it forbids. Layers still normalise by the batch in training mode if `evaluate` is false.
    """
    with ExitStack() as undo:
        for layer in norm_layers(*modules):
            replaced: dict[str, bool | Tensor] = {"training": False} if evaluate else {}
            if isinstance(layer, Norm):
                replaced |= {"record": layer.record and record, "learn": layer.learn and learn}
            else:
                # A copy takes the updates: graphs made before may still need the statistics as they are.
                if not record:
                    replaced |= {name: kept.clone() for name, kept in layer.named_buffers(recurse=False)}
                if not learn:
                    replaced |= {
                        name: nn.Parameter(kept.detach(), requires_grad=False)
                        for name, kept in layer.named_parameters(recurse=False)
                    }
            for name, value in replaced.items():
                undo.callback(setattr, layer, name, getattr(layer, name))
                setattr(layer, name, value)
        yield


def frozen_norms(*modules: nn.Module) -> AbstractContextManager[None]:
    """Makes every normalisation layer in `modules` leave its state alone within the block.

    Running statistics, num_batches_tracked, weights and biases are the same after it; no gradient reaches
    weights and biases. In training mode the layers still normalise by the statistics of the batch. It works
    on torch's BatchNorm, SyncBatchNorm, InstanceNorm, GroupNorm, LayerNorm and RMSNorm and on `Norm`.

    >>> import torch
    >>> layer = torch.nn.BatchNorm3d(2)
    >>> with frozen_norms(torch.nn.Sequential(layer)):
    ...     _ = layer(torch.randn(4, 2, 3, 3, 3))
    >>> layer.running_mean, int(layer.num_batches_tracked)
    (tensor([0., 0.]), 0)
    """
    return norm_mode(*modules, record=False, learn=False)


@contextmanager
def recorded_twice(module: nn.Module) -> Iterator[None]:
    """Updates running statistics as if the forward pass in the block had run twice on the same batch.

    With r₁ = (1 - m) r₀ + m b after one pass, a second gives r₂ = r₁ + (1 - m)(r₁ - r₀). The published
    code probes its decoders with a second pass of the same batch and so records it again. Raises CoopsegError
    for a layer without a momentum m, which averages over all batches alike.
    """
    layers: list[Any] = [layer for layer in norm_layers(module) if hasattr(layer, "running_mean")]
    layers = [layer for layer in layers if layer.running_mean is not None]
    if any(layer.momentum is None for layer in layers):
        raise CoopsegError("latent.norm=published needs norm layers with a momentum; choose another rule")
    before = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]
    yield
    for layer, (mean, var) in zip(layers, before, strict=True):
        # Through .data: autograd holds these buffers, but reads them in evaluation mode only.
        layer.running_mean.data.add_((1 - layer.momentum) * (layer.running_mean - mean))
        layer.running_var.data.add_((1 - layer.momentum) * (layer.running_var - var))


KINDS = (
    Norm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d,
    nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm,
)  # fmt: skip
