"""Everything a training needs to go on as if it had never stopped, in one file that is whole or not there."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from coopseg.errors import CoopsegError
from coopseg.scans.files import write_atomically
from coopseg.training.synchronise import gather

if TYPE_CHECKING:
    from coopseg.training.loop import Loop

CHECKPOINT = "checkpoint.pt"
MAGIC = b"coopseg-checkpoint-1\n"
SHA256 = 32  # bytes


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values. The hash comes first: torch notices no flipped bit."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_atomically(path, MAGIC + hashlib.sha256(content).digest() + content)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU; None where there is no file.

    Nothing in the file is ever executed. Raises CoopsegError for a file that is damaged or none of ours.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    start = len(MAGIC) + SHA256
    if content[: len(MAGIC)] != MAGIC:
        raise CoopsegError(f"{path}: not a coopseg checkpoint; train anew with another --out")
    if hashlib.sha256(content[start:]).digest() != content[len(MAGIC) : start]:
        raise CoopsegError(f"{path}: damaged, its content does not match its SHA-256; train anew")
    try:
        return torch.load(io.BytesIO(content[start:]), weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError) as error:  # the hash is right, so somebody made it so
        raise CoopsegError(f"{path}: holds more than tensors and numbers, refused; train anew") from error


def take_state(loop: Loop) -> dict[str, Any]:
    """The whole state of a training between two steps; every process calls this, the first one keeps it."""
    average = loop.average
    return {
        "step": loop.done,
        "networks": loop.networks.state_dict(),
        "optimiser": loop.optimiser.state_dict(),
        "schedule": loop.schedule.state_dict() if loop.schedule else None,
        "average": {"updates": average.updates, "values": average.values} if average else None,
        "history": asdict(loop.history),
        "processes": gather(loop.fabric, _own_state(loop)),
    }


def restore_state(loop: Loop, state: dict[str, Any]) -> None:
    """Put a training of the same settings and as many processes into a state that `take_state` gave."""
    loop.done = state["step"]
    loop.networks.load_state_dict(state["networks"])
    loop.optimiser.load_state_dict(state["optimiser"])
    if loop.schedule:
        loop.schedule.load_state_dict(state["schedule"])
    if loop.average:
        loop.average.updates = state["average"]["updates"]
        for name, value in loop.average.values.items():
            value.copy_(state["average"]["values"][name])
    for name, value in state["history"].items():
        setattr(loop.history, name, value)
    own = state["processes"][loop.fabric.global_rank]
    loop.generator.set_state(own["generator"])
    loop.sampler.queue = own["queue"]
    loop.meter.load_state(own["meter"], loop.fabric.device)


def _own_state(loop: Loop) -> dict[str, Any]:
    """What each process has for itself: its draws, the slices it has yet to see, the losses not yet read."""
    return {
        "generator": loop.generator.get_state(),
        "queue": loop.sampler.queue.clone(),  # a view into a longer tensor, which would be stored whole
        "meter": loop.meter.state(),
    }
