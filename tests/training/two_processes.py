"""What each of two processes does in test_synchronise.py; started by torch.distributed.run.

python -m torch.distributed.run --standalone --nproc-per-node 2 two_processes.py train DATA OUT
python -m torch.distributed.run --standalone --nproc-per-node 2 two_processes.py gradients OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from coopseg.config.settings import LatentSettings, NetworkSettings, Settings
from coopseg.networks.cooperative import Networks
from coopseg.training import loop
from coopseg.training.run import make_fabric, train
from coopseg.training.step import CooperativeStep, StepChoice
from coopseg.training.synchronise import average_gradients

TINY = {
    "network.width": 2, "cases.size": (32, 32), "cases.spacing": 6.0, "training.batch_size": 4,
    "training.steps": 5, "training.validations": 2,
}  # fmt: skip


def train_and_save(data: str, out: str) -> None:
    """Train, then write what this rank holds: its weights and the draws of its own generator."""
    kept = []
    run = loop.Loop.run

    def keep(self: loop.Loop) -> loop.History:
        kept.append(self)
        return run(self)

    loop.Loop.run = keep  # type: ignore[method-assign]
    train(data, Path(out) / "run", preset="cpu", settings=TINY, device="cpu")
    held = {"weights": kept[0].networks.state_dict(), "draws": torch.rand(4, generator=kept[0].generator)}
    torch.save(held, Path(out) / f"rank{kept[0].fabric.global_rank}.pt")


def joined(choices: list[StepChoice]) -> StepChoice:
    """The draws of both ranks as those of one batch."""
    concat = type(choices[0].image).concat
    noise = torch.cat([choice.noise for choice in choices])
    return StepChoice(noise, concat([c.image for c in choices]), concat([c.shape for c in choices]))


def compare_gradients(out: str) -> None:
    """Gradients of two half batches, averaged, against those of the whole batch in this process alone."""
    fabric = make_fabric("cpu", "32")
    network = NetworkSettings(width=4, norm="running")
    settings = Settings(network=network, latent=LatentSettings(norm="frozen"))
    torch.manual_seed(0)
    step = CooperativeStep(Networks(classes=4, settings=network), settings).double()
    images, labels = torch.rand(4, 1, 32, 32, dtype=torch.float64), torch.randint(4, (4, 32, 32))
    halves = [slice(0, 2), slice(2, 4)]
    choices = [step.sample(images[half], torch.Generator().manual_seed(n)) for n, half in enumerate(halves)]

    mine = fabric.global_rank
    step(images[halves[mine]], labels[halves[mine]], choices[mine])
    average_gradients(fabric, step.networks)
    averaged = {name: p.grad.clone() for name, p in step.named_parameters()}
    step.zero_grad()
    step(images, labels, joined(choices))
    alone = {name: p.grad for name, p in step.named_parameters()}
    torch.save({"averaged": averaged, "alone": alone}, Path(out) / f"gradients{mine}.pt")


if __name__ == "__main__":
    {"train": train_and_save, "gradients": compare_gradients}[sys.argv[1]](*sys.argv[2:])
