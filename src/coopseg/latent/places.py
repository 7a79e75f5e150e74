"""Finds where a network hands features to its decoder, and exchanges them there by hooks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from coopseg.errors import CoopsegError

Exchange = Callable[[list[Tensor]], list[Tensor]]
Undo = Callable[[], None]


@dataclass(frozen=True)
class Place:
    """Names a place where features pass to a decoder.

    attach: called with a function from those features, (B, C, *spatial) each and the deeper of two first, to
    what the decoder reads in their place; returns what ends that.
    """

    name: str
    attach: Callable[[Exchange], Undo]


def find_places(network: nn.Module, at: str | Sequence[str] = "auto") -> list[Place]:
    """Finds the places where the decoder of a network reads features.

    at: "auto" for networks with a module `decoder` (nnU-Net's, segmentation_models_pytorch's), with methods
    `encode` and `decode` (MONAI's SegResNet), and MONAI's UNet and DynUNet. Otherwise names of modules, as in
    `network.named_modules()`, whose outputs are features; deeper layers read the exchanged ones too.
    Raises CoopsegError if nothing is found, or a name is not a module.

    >>> network = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 1))
    >>> [place.name for place in find_places(network, at=["1"])]
    ['1']
    """
    if at != "auto":
        return [_output(name, _module(network, name)) for name in ([at] if isinstance(at, str) else at)]
    for rule in (_of_dynunet, _of_nested, _of_decoder, _of_methods):
        if places := list(rule(network)):
            return places
    raise CoopsegError(
        f"{type(network).__name__}: found nothing that a decoder reads; name the modules whose outputs are "
        f"features, as at=[{', '.join(repr(name) for name, _ in list(network.named_children())[:3])}]"
    )


def _module(network: nn.Module, name: str) -> nn.Module:
    modules = dict(network.named_modules())
    if name not in modules:
        close = difflib.get_close_matches(name, modules, n=3, cutoff=0)
        raise CoopsegError(f"at={name!r}: no such module in the network; the closest are {', '.join(close)}")
    return modules[name]


def _of_dynunet(network: nn.Module) -> Iterator[Place]:
    """MONAI's DynUNet: every layer hands (what comes from below, its skip) to its `upsample`."""
    for name, layer in network.named_modules():
        if not all(hasattr(layer, part) for part in ("downsample", "next_layer", "upsample")):
            continue
        below: Any = layer.next_layer
        innermost = not hasattr(below, "next_layer")
        yield _inputs(f"{name}.upsample", layer.upsample, which=(0, 1) if innermost else (1,))


def _of_nested(network: nn.Module) -> Iterator[Place]:
    """MONAI's UNet: nested connections, each of which joins what it is given with what comes from below."""
    for name, layer in network.named_modules():
        if _is_connection(layer):
            yield _connection(name, layer)


def _is_connection(layer: nn.Module) -> bool:
    return type(layer).__name__ == "SkipConnection" and hasattr(layer, "submodule")


def _of_decoder(network: nn.Module) -> Iterator[Place]:
    for name in ("decoder", "segmentation_decoder"):
        if isinstance(module := getattr(network, name, None), nn.Module):
            yield _inputs(name, module)


def _of_methods(network: nn.Module) -> Iterator[Place]:
    if callable(getattr(network, "encode", None)) and callable(decode := getattr(network, "decode", None)):

        def attach(exchange: Exchange) -> Undo:
            network.decode = lambda *read: decode(*_exchanged(read, exchange))  # type: ignore[assignment]
            return lambda: delattr(network, "decode")

        yield Place("decode", attach)


def _inputs(name: str, module: nn.Module, which: Sequence[int] | None = None) -> Place:
    """Exchanges what a module is called with. which: the positions among its arguments; default all."""

    def attach(exchange: Exchange) -> Undo:
        def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
            places = range(len(given)) if which is None else which
            changed = dict(zip(places, _exchanged([given[place] for place in places], exchange), strict=True))
            return tuple(changed.get(place, value) for place, value in enumerate(given)), named

        return module.register_forward_pre_hook(hook, with_kwargs=True).remove

    return Place(name, attach)


def _output(name: str, module: nn.Module) -> Place:
    def attach(exchange: Exchange) -> Undo:
        return module.register_forward_hook(lambda _, __, output: _exchanged(output, exchange)).remove

    return Place(name, attach)


def _connection(name: str, layer: Any) -> Place:
    """Exchanges what a connection joins, not what it hands down.

    Of what comes from below only the innermost is a feature: the others are the decoder's own.
    """
    mode, dim, below = str(layer.mode), layer.dim, layer.submodule
    innermost = not any(_is_connection(module) for module in below.modules())
    if mode not in ("cat", "add") or dim != 1:
        raise CoopsegError(f"{name}: joins by {mode} along dimension {dim}; known are cat and add along 1")

    def attach(exchange: Exchange) -> Undo:
        came: list[Tensor] = []

        def keep(_: nn.Module, __: object, output: Tensor) -> None:
            came[:] = [output]

        def join(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> Tensor:
            up, skip = exchange([came[0], given[0]]) if innermost else (came[0], *exchange([given[0]]))
            came.clear()
            return torch.cat([skip, up], 1) if mode == "cat" else skip + up

        handles = below.register_forward_hook(keep), layer.register_forward_hook(join)

        def undo() -> None:
            for handle in handles:
                handle.remove()

        return undo

    return Place(name, attach)


def _exchanged(tree: Any, exchange: Exchange) -> Any:
    """Exchanges all features in nested lists and tuples at once; one that occurs twice is one."""
    found: dict[int, Tensor] = {}

    def collect(part: Any) -> None:
        if isinstance(part, Tensor) and part.ndim > 2 and part.is_floating_point():
            found[id(part)] = part
        elif isinstance(part, list | tuple):
            for each in part:
                collect(each)

    collect(tree)
    new = dict(zip(found, exchange(list(found.values())), strict=True))

    def put(part: Any) -> Any:
        if isinstance(part, list | tuple):
            return type(part)(put(each) for each in part)
        return new.get(id(part), part)

    return put(tree)
