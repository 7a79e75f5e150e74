"""Saves and loads a trained model: weights, settings and class names in one file that can be checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from coopseg.config.resolve import check_named, own_code
from coopseg.config.settings import OWN_KINDS, Settings
from coopseg.errors import CoopsegError
from coopseg.inference.onnx_networks import OnnxNetworks, open_onnx, read_onnx
from coopseg.networks.cooperative import Networks
from coopseg.networks.other import OtherNetworks, make_networks
from coopseg.quality.calibration import Calibration
from coopseg.scans.files import write_atomically
from coopseg.scans.labels import MOST_LABELS
from coopseg.scans.types import BACKGROUND
from coopseg.text import one_line, open_regular, parse_json, shorten

FORMAT = "coopseg-1"
CALIBRATION = "calibration"
WEIGHTS = 5000  # fewest weights for the square of the width; networks of any kind have 8700 or more
LAST = "last.safetensors"  # the weights that a run folder stands for
BEST = {"FTN": "best_ftn.safetensors", "FTN+STN": "best_stn.safetensors"}  # of each head, by validation


@dataclass(frozen=True)
class Model:
    """Holds networks in evaluation mode with what is needed to use them.

    networks: from a weight file or from an ONNX file. names: class names, background first, in the order of
    the networks' outputs. sha256: hash of weights, settings and names; an ONNX file has that of the weight
    file it was exported from. calibration: what Dice its label maps are expected to have, see `calibrate`.
    """

    networks: Networks | OtherNetworks | OnnxNetworks
    settings: Settings
    names: tuple[str, ...]
    path: Path
    sha256: str
    calibration: Calibration | None = None


def fingerprint(state: dict[str, Tensor], facts: str) -> str:
    """Returns the SHA-256 of the facts and of each tensor's name, type, shape and bytes, sorted by name."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # numpy knows no bfloat16
    return digest.hexdigest()


def save_model(
    path: Path,
    state: dict[str, Tensor],
    *,
    settings: Settings,
    names: tuple[str, ...],
    calibration: Calibration | None = None,
) -> str:
    """Write weights, settings and names as one safetensors file, whole or not at all; returns their SHA-256.

    Neither safetensors nor torch notices a flipped bit, so the hash of the content is stored with it. A
    calibration has a hash of its own, so that the model is known as the same without it.
    """
    facts = write_facts(settings, names)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    sha256 = fingerprint(state, facts)
    metadata = {"format": FORMAT, "facts": facts, "sha256": sha256}
    if calibration:
        text = calibration.model_dump_json()
        metadata |= {CALIBRATION: text, f"{CALIBRATION}_sha256": fingerprint({}, text)}
    write_atomically(path, _in_order(save(state, metadata)))
    return sha256


def store_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration into a weight file, in place of an earlier one; the weights stay as they are.

    Raises CoopsegError as `load_model` does.
    """
    state, metadata = _read(path)
    settings, names = read_facts(metadata["facts"], path)
    save_model(path, state, settings=settings, names=names, calibration=calibration)


def _in_order(content: bytes) -> bytes:
    """Sorts the metadata of a safetensors file, so that equal content is equal bytes."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + content[start:]


def write_facts(settings: Settings, names: tuple[str, ...]) -> str:
    """Returns settings and names as text, to be stored beside weights; `read_facts` undoes it."""
    return json.dumps({"settings": settings.model_dump(mode="json"), "names": names}, sort_keys=True)


def load_model(path: str | Path, device: torch.device | str = "cpu", *, trust: Collection[str] = ()) -> Model:
    """Loads the model of a run folder (its last weights), of one weight file, or of an ONNX file by `export`.

    Raises CoopsegError for a folder without weights, a file that coopseg did not write, damage, and settings
    or names that do not fit the weights. Nothing in the file is executed, and no memory is allocated just
    because the file asks for it. trust: the "module:callable" of network.kind that may be run, if the model
    was trained with one. An ONNX file needs the extra `onnx` and the processor as the device.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = coopseg.train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> model = load_model(run)
    >>> model.names, model.settings.network.width
    (('background', 'RV', 'MYO', 'LV'), 2)
    """
    file = find_weights(Path(path))
    if file.suffix == ".onnx":
        return _load_onnx(file, torch.device(device))
    state, metadata = _read(file)
    _check_finite(state, file)
    settings, names = read_facts(metadata.get("facts", ""), file)
    check_named(own_code([settings.network.kind]), trust, file=file, how="--trust ")
    networks = _build(state, settings, len(names), file)
    networks.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    networks.eval().requires_grad_(False)
    return Model(networks, settings, names, file, metadata["sha256"], _calibration(metadata, names, file))


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads tensors and metadata. Raises CoopsegError for a file that coopseg did not write, and damage."""
    try:
        with open_regular(file), safe_open(file, "pt") as stored:
            metadata = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CoopsegError(
            f"{file}: cannot be read as safetensors ({one_line(error)}); train again or copy it again"
        ) from None
    if metadata.get("format") != FORMAT:
        raise CoopsegError(
            f"{file}: not a coopseg model (format {shorten(metadata.get('format'))}); give a training's --out"
        )
    if fingerprint(state, metadata.get("facts", "")) != metadata.get("sha256"):
        raise CoopsegError(f"{file}: damaged, its content does not match its SHA-256; copy it again")
    return state, metadata


def _calibration(metadata: dict[str, str], names: tuple[str, ...], file: Path) -> Calibration | None:
    """Returns the calibration in a file. Raises CoopsegError for damage, and for one of other classes."""
    text = metadata.get(CALIBRATION)
    if text is None:
        return None
    try:
        if fingerprint({}, text) != metadata.get(f"{CALIBRATION}_sha256"):
            raise ValueError("its SHA-256 is another")
        found = Calibration.model_validate_json(text)
        if tuple(found.lines) != names[1:]:
            raise ValueError(f"it is of the classes {', '.join(found.lines)}")
    except ValueError as error:  # pydantic's ValidationError is such
        raise CoopsegError(
            f"{file}: its calibration cannot be used ({one_line(error)}); calibrate again, or copy it again"
        ) from None
    return found


def _check_finite(state: dict[str, Tensor], file: Path) -> None:
    for name, tensor in state.items():
        if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():  # NaN passes through both
            raise CoopsegError(f"{file}: the weight {shorten(name)} holds NaN or infinity; train again")


def _load_onnx(file: Path, device: torch.device) -> Model:
    if device.type != "cpu":
        raise CoopsegError(f"{file}: an ONNX file is run on the processor; use device cpu, or the run folder")
    stored = read_onnx(file)
    settings, names = read_facts(stored.metadata.get("facts", ""), file)
    networks = open_onnx(stored, classes=len(names), size=settings.cases.size, network=settings.network)
    return Model(networks, settings, names, file, stored.metadata.get("weights_sha256", ""))


def read_facts(text: str, file: Path) -> tuple[Settings, tuple[str, ...]]:
    """Reads settings and names as `write_facts` wrote them. Raises CoopsegError for any other text."""
    try:
        facts = parse_json(text)
        return Settings.checked(facts["settings"]), _check_names(facts["names"])
    except (ValueError, KeyError, TypeError) as error:
        raise CoopsegError(
            f"{file}: its settings or names cannot be used ({error}); take the version of coopseg that wrote "
            "it, or train again"
        ) from None


def _check_names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name.isprintable() for name in names):
        raise ValueError(f"names {shorten(names)}")
    if names[:1] != [BACKGROUND] or len(set(names)) < len(names) or len(names) > MOST_LABELS:
        raise ValueError(f"names {shorten(names)}")
    return tuple(names)


def _build(
    state: dict[str, Tensor], settings: Settings, classes: int, file: Path
) -> Networks | OtherNetworks:
    """Builds networks with the tensors of `state`, but only if it has about as many weights as they need."""
    width, own = settings.network.width, settings.network.kind in OWN_KINDS
    needed = max(WEIGHTS * width**2, 9 * width * settings.network.channels)
    if not own or sum(tensor.numel() for tensor in state.values()) > needed:
        networks = make_networks(settings.network, classes)
        if _shapes(networks.state_dict()) == _shapes(state):
            networks.load_state_dict(state)
            return networks
    raise CoopsegError(
        f"{file}: its weights do not fit its settings (network.width {shorten(width)}, {classes} classes); "
        "take the version of coopseg that wrote it, or train again"
    )


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}


def find_weights(path: Path) -> Path:
    """Returns the weight file that `path` stands for. Raises CoopsegError if there is none."""
    file = path / LAST if path.is_dir() else path
    if file.exists():
        return file
    what = f"holds no {LAST}" if path.is_dir() else "does not exist"
    raise CoopsegError(f"{path}: {what}; --model takes the folder given to `coopseg train --out`")


PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16}


def usable_devices() -> tuple[str, ...]:
    """Returns the kinds of device that torch can use here, the fastest first."""
    accelerators = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return (*(name for name, there in accelerators.items() if there), "cpu")


def choose_device(name: str) -> torch.device:
    """Returns the device called `name`, the fastest for "auto". Raises CoopsegError if it is not there."""
    usable = usable_devices()
    if name != "auto" and name not in usable:
        raise CoopsegError(f"device {name!r} is not available here; usable: auto, {', '.join(usable)}")
    return torch.device(usable[0] if name == "auto" else name)


def choose_dtype(precision: str) -> torch.dtype:
    """Returns the type that layers compute in for "32" or "bf16". Raises CoopsegError for any other."""
    if precision not in PRECISIONS:
        raise CoopsegError(f"precision {precision!r} is not known; use {' or '.join(PRECISIONS)}")
    return PRECISIONS[precision]
