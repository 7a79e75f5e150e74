"""Keeps in a run folder what a training needs to go on as if it had never stopped.

request.json is written before the first step: what was asked for, and what has to stay as it was. The
checkpoint is written now and then: weights, optimiser and draws, in one file, whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric

from coopseg.cases.splits import REQUEST
from coopseg.config.section import Section
from coopseg.errors import CoopsegError
from coopseg.networks.native import kernels
from coopseg.scans.files import locked, write_atomically
from coopseg.text import flatten, read_json
from coopseg.training.inputs import Inputs
from coopseg.training.request import TrainingRequest
from coopseg.versions import versions

if TYPE_CHECKING:
    from coopseg.training.loop import LoopState

ABSENT = "nothing"
CHECKPOINT = "checkpoint.pt"
MAGIC = b"coopseg-checkpoint-1\n"
SHA256 = 32  # bytes


class RequestRecord(Section):
    """Holds the content of request.json.

    started: local time, ISO 8601. same: what must be equal for a training to go on bit for bit. scans: a hash
    that must be equal as well. like: what should be equal; a difference is only reported.
    """

    started: str
    arguments: TrainingRequest
    same: Mapping[str, Any]
    scans: str
    like: Mapping[str, str | int]


def describe_request(request: TrainingRequest, inputs: Inputs, fabric: Fabric) -> RequestRecord:
    """Describes a training that begins now."""
    parts = inputs.parts
    followed = {
        "cases": {"trained_axis", "channels"},
        "network": {"channels"},
    }  # follow from the scans, which are compared themselves
    like: dict[str, str | int] = {
        "device": str(fabric.device),
        "threads": torch.get_num_threads(),
        **versions(),
    }
    if fabric.device.type == "cpu":
        like["kernels"] = str(kernels())
    record = RequestRecord(
        started=time.strftime("%Y-%m-%dT%H:%M:%S"),
        arguments=request,
        same={
            "setting": inputs.settings.model_dump(mode="json", exclude=followed),
            "split": {"train": parts.train, "validate": parts.validate, "test": parts.test},
            "classes": inputs.validation.names,
            "processes": fabric.world_size,
        },
        scans=hash_cases(inputs),
        like=like,
    )
    return RequestRecord.model_validate_json(record.model_dump_json())  # as it will be read again


def hash_cases(inputs: Inputs) -> str:
    """Returns the SHA-256 of every voxel that the training will see."""
    digest = hashlib.sha256()
    cases, targets = (*inputs.training, *inputs.validation.cases), inputs.validation.targets
    for array in (*(array for case in cases for array in (case.image, case.label)), *targets):
        if array is not None:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_request(folder: Path, record: RequestRecord) -> None:
    """Writes request.json into a run folder."""
    write_atomically(folder / REQUEST, record.model_dump_json(indent=1).encode())


def read_request(folder: Path) -> RequestRecord:
    """Reads request.json of a run folder. Raises CoopsegError if it is missing or damaged."""
    path = folder / REQUEST
    if not path.exists():
        what = "holds no training" if folder.is_dir() else "no such run"
        raise CoopsegError(f"{folder}: {what}; --resume takes the --out of an earlier training")
    try:
        return RequestRecord.model_validate(read_json(path))
    except ValueError:  # CoopsegError and pydantic's ValidationError are such
        raise CoopsegError(
            f"{path}: damaged, it does not say what was trained; train anew with another --out"
        ) from None


def check_same(before: RequestRecord, now: RequestRecord, folder: Path) -> list[str]:
    """Raise CoopsegError, naming the first difference, if a resumed training would not be the same.

    Returns a line for each difference that can change the last digits only.
    """
    old, new = flatten(before.same), flatten(now.same)
    for name in sorted(old.keys() | new.keys()):
        was, is_now = old.get(name, ABSENT), new.get(name, ABSENT)
        if was != is_now:
            words = name.replace(".", " ", 1)  # such as "setting training.steps"
            raise CoopsegError(
                f"{folder}: cannot resume with another {words}: it began with {was}, now given {is_now}; "
                "leave the change out, or train anew with another --out"
            )
    if before.scans != now.scans:
        raise CoopsegError(
            f"{folder}: the scans or labels of its patients have changed since it began; train anew"
        )
    pairs = ((name, before.like.get(name, ABSENT), value) for name, value in now.like.items())
    return [
        f"resumed with {name} {value} instead of {was}: the result may differ in its last digits"
        for name, was, value in pairs
        if was != value
    ]


@contextmanager
def claimed(folder: Path, fabric: Fabric) -> Iterator[None]:
    """Keeps a run folder for this training, and clears it of half-written files of one that was killed.

    Raises CoopsegError, which names the holder, while another process trains in it.
    """
    if not fabric.is_global_zero:
        yield
        return
    with locked(folder):
        for left in folder.rglob(".*.tmp"):
            left.unlink()
        yield


def save_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """Write tensors and plain values. The hash comes first: torch does not notice a flipped bit."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_atomically(path, MAGIC + hashlib.sha256(content).digest() + content)


def load_checkpoint(path: Path) -> LoopState | None:
    """Reads what `save_checkpoint` wrote, to the CPU; returns None if there is no file.

    Nothing in the file is ever executed. Raises CoopsegError for a file that is damaged or not by coopseg.
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
    except Exception as error:  # the hash is right, so it was made on purpose
        raise CoopsegError(f"{path}: holds more than tensors and numbers, refused; train anew") from error
