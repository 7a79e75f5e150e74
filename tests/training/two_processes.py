"""What each of two processes does in test_synchronise.py; started by torch.distributed.run.

python -m torch.distributed.run --standalone --nproc-per-node 2 two_processes.py DATA OUT
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from coopseg.config.settings import LatentSettings, NetworkSettings, Settings
from coopseg.errors import CoopsegError
from coopseg.latent.choice import MaskChoice
from coopseg.networks.cooperative import Networks
from coopseg.training import loop
from coopseg.training.processes import average_gradients, make_fabric
from coopseg.training.run import train
from coopseg.training.step import CooperativeStep, StepChoice

RANK = int(os.environ["RANK"])
TINY = {
    "network.width": 2, "cases.size": (32, 32), "cases.spacing": 6.0, "training.batch_size": 4,
    "training.steps": 5, "training.validations": 2,
}  # fmt: skip


def joined(choices: list[StepChoice]) -> StepChoice:
    """The draws of both ranks as those of one batch."""
    noise = torch.cat([choice.noise for choice in choices])
    image, shape = (
        MaskChoice.concat([getattr(choice, name) for choice in choices]) for name in ("image", "shape")
    )
    return StepChoice(noise, image, shape)


def compare_gradients() -> dict[str, Any]:
    """Gradients of two half batches, averaged, and those of the whole batch in this process alone."""
    fabric = make_fabric("cpu", "32")
    network = NetworkSettings(width=4, norm="running")
    settings = Settings(network=network, latent=LatentSettings(norm="frozen"))
    torch.manual_seed(0)
    step: Any = CooperativeStep(Networks(classes=4, **dict(network)).double(), settings)
    images, labels = torch.rand(4, 1, 32, 32, dtype=torch.float64), torch.randint(4, (4, 32, 32))
    halves = [slice(0, 2), slice(2, 4)]
    choices = [step.sample(images[half], torch.Generator().manual_seed(n)) for n, half in enumerate(halves)]

    step.backward(images[halves[RANK]], labels[halves[RANK]], choices[RANK])
    mine = {name: p.grad.clone() for name, p in step.networks.named_parameters() if p.grad is not None}
    average_gradients(fabric, step.networks)
    averaged = {name: p.grad.clone() for name, p in step.networks.named_parameters() if p.grad is not None}
    step.networks.zero_grad()
    step.backward(images, labels, joined(choices))
    alone = {name: p.grad for name, p in step.networks.named_parameters() if p.grad is not None}
    return {"mine": mine, "averaged": averaged, "alone": alone}


def train_and_watch(data: str, run: Path) -> dict[str, Any]:
    """Train; then what this rank drew, ended with, and wrote below `run`."""
    loops, drawn, written = [], [], []
    train_loop, sample = loop.Loop.run, CooperativeStep.sample

    def keep_loop(self: loop.Loop) -> loop.History:
        loops.append(self)
        return train_loop(self)

    def keep_choice(self: CooperativeStep, *arguments: Any, **options: Any) -> StepChoice:
        choice = sample(self, *arguments, **options)
        if options:  # a step of the training, not a picture of the first rank
            drawn.append(choice)
        return choice

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.mkdir", "os.rename") or run not in (
            path := Path(str(arguments[0])),
            *path.parents,
        ):
            return
        if event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(str(path))

    loop.Loop.run, CooperativeStep.sample = keep_loop, keep_choice  # type: ignore[method-assign]
    sys.addaudithook(watch)
    train(data, run, preset="cpu", method="cooperative", settings=TINY, device="cpu")
    masks = [choice.image.state() | {"noise": choice.noise} for choice in drawn if choice.image]
    return {"weights": loops[0].networks.state_dict(), "masks": masks, "written": written}


def break_second_rank(data: str, run: Path) -> dict[str, Any]:
    """Train with images of the second step that are not finite, on the second rank only."""
    namespace: Any = loop
    make_batch = namespace.make_batch
    broken: list[Any] = []

    def make(store: Any, numbers: Any, *arguments: Any) -> Any:
        broken.append([store.ids[number] for number in numbers])
        images, labels = make_batch(store, numbers, *arguments)
        return (images * torch.nan if RANK == 1 and len(broken) == 2 else images), labels

    namespace.make_batch = make
    error = error_of(
        lambda: train(data, run, preset="cpu", method="cooperative", settings=TINY, device="cpu")
    )
    return {"broken": error, "slices": broken[1]}


def error_of(action: Callable[[], object]) -> str:
    """What the user is told."""
    try:
        action()
    except CoopsegError as error:
        return str(error)
    return ""


def main(data: str, out: str) -> None:
    """Everything in turn; the answers of this rank to a file."""
    found = compare_gradients() | train_and_watch(data, Path(out) / "run")
    found["refused"] = error_of(
        lambda: train(data, Path(out) / "run", preset="cpu", method="cooperative", device="cpu")
    )
    found |= break_second_rank(data, Path(out) / "broken")
    torch.save(found, Path(out) / f"rank{RANK}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
