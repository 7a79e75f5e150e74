"""Records what a training was asked to do, before its first step, and compares it with a resumed one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from coopseg.cases.prepare import Case
from coopseg.cases.splits import REQUEST
from coopseg.config.resolve import read_overrides
from coopseg.errors import CoopsegError
from coopseg.networks.native import kernels
from coopseg.scans.files import lock, write_atomically
from coopseg.text import flatten
from coopseg.training.inputs import Arguments, Inputs, ValidationSet
from coopseg.versions import versions

ABSENT = "nothing"


def describe_request(arguments: Arguments, inputs: Inputs, fabric: Fabric) -> dict[str, Any]:
    """Describes a training, for comparison when it is resumed.

    "same" and "scans" must match for a bit-exact resume. "like" should match; a difference is only reported.
    """
    parts = inputs.parts
    followed = {"cases": {"trained_axis"}}  # follows from the scans, which are compared themselves
    same = {
        "setting": inputs.settings.model_dump(mode="json", exclude=followed),
        "split": {"train": parts.train, "validate": parts.validate, "test": parts.test},
        "classes": inputs.validation.names,
        "processes": fabric.world_size,
    }
    like = {"device": str(fabric.device), "threads": torch.get_num_threads(), **versions()}
    if fabric.device.type == "cpu":
        like["kernels"] = str(kernels())
    started = time.strftime("%Y-%m-%dT%H:%M:%S")
    scans = hash_cases(inputs.training, inputs.validation)
    request = {
        "started": started,
        "arguments": asdict(arguments),
        "same": same,
        "scans": scans,
        "like": like,
    }
    return json.loads(json.dumps(request))


def hash_cases(training: Sequence[Case], validation: ValidationSet) -> str:
    """Returns the SHA-256 of every voxel that the training will see."""
    digest = hashlib.sha256()
    arrays = [array for case in (*training, *validation.cases) for array in (case.image, case.label)]
    for array in (*arrays, *validation.targets):
        if array is not None:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_request(folder: Path, request: dict[str, Any]) -> None:
    """Writes the request into a run folder."""
    write_atomically(folder / REQUEST, json.dumps(request, indent=1).encode())


def read_request(folder: Path) -> dict[str, Any]:
    """Reads the request from a run folder. Raises CoopsegError if it is missing or damaged."""
    path = folder / REQUEST
    try:
        request = json.loads(path.read_text(encoding="utf-8"))
        Arguments(**request["arguments"])
        sections = isinstance(request["same"], dict) and isinstance(request["like"], dict)
        if sections and isinstance(request["scans"], str) and isinstance(request["started"], str):
            return request
    except FileNotFoundError:
        raise CoopsegError(f"{path}: not found; --resume takes the run folder of a training") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise CoopsegError(f"{path}: damaged, it does not say what was trained; train anew with another --out")


def change_arguments(before: dict[str, Any], given: Mapping[str, Any]) -> Arguments:
    """Returns the arguments of a training, replaced by those in `given`; settings are replaced singly."""
    settings = before["settings"] | read_overrides(given.get("settings", ()))
    return Arguments.of(**{**before, **given, "settings": settings})


def check_same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> list[str]:
    """Raise CoopsegError, naming the first difference, if a resumed training would not be the same.

    Returns a line for each difference that may show in the last digits only.
    """
    old, new = flatten(before["same"]), flatten(now["same"])
    for name in sorted(old.keys() | new.keys()):
        was, is_now = old.get(name, ABSENT), new.get(name, ABSENT)
        if was != is_now:
            words = name.replace(".", " ", 1)  # such as "setting training.steps"
            raise CoopsegError(
                f"{folder}: cannot resume with another {words}: it began with {was}, now given {is_now}; "
                "leave the change out, or train anew with another --out"
            )
    if before["scans"] != now["scans"]:
        raise CoopsegError(
            f"{folder}: the scans or labels of its patients have changed since it began; train anew"
        )
    pairs = ((name, before["like"].get(name, ABSENT), value) for name, value in now["like"].items())
    return [
        f"resumed with {name} {value} instead of {was}: the result may differ in its last digits"
        for name, was, value in pairs
        if was != value
    ]


@contextmanager
def claimed(folder: Path, fabric: Fabric) -> Iterator[None]:
    """Locks a run folder for this training, and clears it of half-written files of one that was killed.

    Raises CoopsegError while another process trains in it.
    """
    if not fabric.is_global_zero:
        yield
        return
    with open(folder / REQUEST, "rb") as file:
        if not lock(file):
            raise CoopsegError(f"{folder}: another process trains in it; wait, or stop that one")
        for left in folder.rglob(".*.tmp"):
            left.unlink()
        yield
