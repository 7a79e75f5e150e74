"""A trained model on disk: weights, settings and class names in one file that can be checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from coopseg.config.resolve import build_settings
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks
from coopseg.scans.files import write_atomically

FORMAT = "coopseg-1"
BEST, LAST = "best.safetensors", "last.safetensors"


@dataclass(frozen=True)
class Model:
    """Networks in evaluation mode with what is needed to use them.

    names: of the classes, background first, in the order of the networks' outputs.
    """

    networks: Networks
    settings: Settings
    names: tuple[str, ...]
    path: Path
    sha256: str


def fingerprint(state: dict[str, Tensor], facts: str) -> str:
    """SHA-256 over the facts and every tensor's name, type, shape and bytes, in the order of the names."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def save_model(path: Path, state: dict[str, Tensor], *, settings: Settings, names: tuple[str, ...]) -> str:
    """Write weights, settings and names as one safetensors file, whole or not at all; returns its SHA-256.

    Neither safetensors nor torch sees a flipped bit, so the hash of the content is stored with it.
    """
    facts = json.dumps({"settings": settings.model_dump(mode="json"), "names": names}, sort_keys=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    sha256 = fingerprint(state, facts)
    write_atomically(path, save(state, {"format": FORMAT, "facts": facts, "sha256": sha256}))
    return sha256


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """The model of a run folder (its best weights) or of one weight file.

    Raises CoopsegError for a folder without weights, a file that is none of ours, or damage.
    """
    file = find_weights(Path(path))
    try:
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CoopsegError(
            f"{file}: cannot be read as safetensors ({error}); train again or copy it again"
        ) from None
    if metadata.get("format") != FORMAT:
        raise CoopsegError(
            f"{file}: not a coopseg model (format {metadata.get('format')!r}); give a training's --out"
        )
    if fingerprint(state, metadata.get("facts", "")) != metadata.get("sha256"):
        raise CoopsegError(f"{file}: damaged, its content does not match its SHA-256; copy it again")
    facts = json.loads(metadata["facts"])
    settings, names = build_settings(facts["settings"]), tuple(facts["names"])
    networks = Networks(classes=len(names), settings=settings.network)
    networks.load_state_dict(state, strict=True)
    networks = networks.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    networks.eval().requires_grad_(False)
    return Model(networks, settings, names, file, metadata["sha256"])


def find_weights(path: Path) -> Path:
    """The weight file that `path` means. Raises CoopsegError if there is none."""
    if path.is_file():
        return path
    for name in (BEST, LAST):
        if (path / name).is_file():
            return path / name
    what = "holds no best.safetensors" if path.is_dir() else "does not exist"
    raise CoopsegError(f"{path}: {what}; --model takes the folder given to `coopseg train --out`")
