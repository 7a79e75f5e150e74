"""Saves in one file, whole or not at all, what a training needs to go on as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from coopseg.errors import CoopsegError
from coopseg.scans.files import write_atomically

CHECKPOINT = "checkpoint.pt"
MAGIC = b"coopseg-checkpoint-1\n"
SHA256 = 32  # bytes


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values. The hash comes first: torch does not notice a flipped bit."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_atomically(path, MAGIC + hashlib.sha256(content).digest() + content)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
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
    except (pickle.UnpicklingError, RuntimeError) as error:  # the hash is right, so it was made on purpose
        raise CoopsegError(f"{path}: holds more than tensors and numbers, refused; train anew") from error
