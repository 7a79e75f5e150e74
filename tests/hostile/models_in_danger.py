"""Damaged and forged weight files: refused, or equal to the one that was saved, tensor by tensor."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from damage import BYTES, Generator
from verdict import REFUSED, refusal_of

from coopseg.config.resolve import resolve_settings
from coopseg.inference.model import load_model, save_model
from coopseg.networks.cooperative import Networks

NAMES = ("background", "LV", "MYO", "RV")
Facts = dict[str, Any]


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def write_model(path: Path) -> None:
    """A small model with random weights."""
    torch.manual_seed(0)
    settings = resolve_settings(overrides={"network.width": 1, "cases.size": (32, 32), "cases.spacing": 6.0})
    networks = Networks(classes=len(NAMES), **dict(settings.network))
    save_model(path, networks.state_dict(), settings=settings, names=NAMES)


def pickles(trap: Path) -> list[bytes]:
    """Files that would make `trap` when unpickled: by hand and by torch."""
    buffer = io.BytesIO()
    torch.save({"state": Trap(trap)}, buffer)
    return [pickle.dumps(Trap(trap)), buffer.getvalue(), struct.pack("<Q", 8) + pickle.dumps(Trap(trap))]


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file."""
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: dict[str, Any], tensors: bytes) -> bytes:
    """The inverse."""
    block = json.dumps(header).encode()
    return struct.pack("<Q", len(block)) + block + tensors


def forge(content: bytes, change: Callable[[Facts], None]) -> bytes:
    """Other facts under a hash that fits them."""
    header, tensors = parts(content)
    facts = json.loads(header["__metadata__"]["facts"])
    change(facts)
    return with_facts(header, tensors, json.dumps(facts))


def with_facts(header: dict[str, Any], tensors: bytes, facts: str) -> bytes:
    """A file whose hash, computed here by its definition, is right."""
    dtypes = {"F32": torch.float32, "I64": torch.int64}
    digest = hashlib.sha256(facts.encode())
    for name in sorted(name for name in header if name != "__metadata__"):
        entry = header[name]
        digest.update(f"{name} {dtypes[entry['dtype']]} {tuple(entry['shape'])}".encode())
        digest.update(tensors[slice(*entry["data_offsets"])])
    metadata = {"format": "coopseg-1", "facts": facts, "sha256": digest.hexdigest()}
    return joined({**header, "__metadata__": metadata}, tensors)


def setting(section: str, key: str, value: Any) -> Callable[[Facts], None]:
    """Changes a setting in the facts."""
    return lambda facts: facts["settings"][section].update({key: value})


FORGERIES: dict[str, Callable[[Facts], None]] = {
    "width-million": setting("network", "width", 10**6),
    "width-beyond-64-bits": setting("network", "width", 10**30),
    "width-other": setting("network", "width", 3),
    "width-text": setting("network", "width", "many"),
    "width-nothing": setting("network", "width", 0),
    "unknown-key": setting("network", "depth", 3),
    "channels": setting("network", "channels", 2),
    "infinite": setting("cases", "spacing", float("inf")),
    "settings-list": lambda facts: facts.update(settings=[1, 2]),
    "settings-missing": lambda facts: facts.pop("settings"),
    "names-missing": lambda facts: facts.pop("names"),
    "names-text": lambda facts: facts.update(names="abcd"),
    "names-numbers": lambda facts: facts.update(names=[0, 1, 2, 3]),
    "names-too-few": lambda facts: facts.update(names=["background", "LV"]),
    "names-too-many": lambda facts: facts.update(names=["background", *map(str, range(10**5))]),
    "names-twice": lambda facts: facts.update(names=["background", "LV", "LV", "RV"]),
    "names-no-background": lambda facts: facts.update(names=["a", "b", "c", "d"]),
    "names-two-lines": lambda facts: facts.update(names=["background", "a\nb", "c", "d"]),
    "names-no-text": lambda facts: facts.update(names=["background", "\ud800", "c", "d"]),
}
TEXTS = (
    "",
    "null",
    "[]",
    "[" * 10**5,
    "{",
    "9" * 5000,
    '{"names": 1, "names": 2}',
    "\x00",
    '"' + "x" * 10**6,
)


def edit_header(content: bytes, generator: Generator) -> bytes:
    """A tensor renamed, retyped, reshaped or moved, or a fact changed, the hash left as it is."""
    header, tensors = parts(content)
    names = [name for name in header if name != "__metadata__"]
    name, other = (str(name) for name in generator.choice(names, 2, replace=False))
    kind = int(generator.integers(6))
    values = [tensors[slice(*header[each]["data_offsets"])] for each in (name, other)]
    if kind == 4 and values[0] == values[1]:  # to swap two biases of zeros is no damage
        kind = 0
    if kind == 0:
        header[name + "x"] = header.pop(name)
    elif kind == 1:
        header[name]["dtype"] = str(generator.choice(["BF16", "F16", "F64", "I32", "F8_E4M3", "BOOL", "F4"]))
    elif kind == 2:
        header[name]["shape"] = [2**40, *header[name]["shape"]]
    elif kind == 3:
        header[name]["data_offsets"] = header[other]["data_offsets"]
    elif kind == 4:
        header[name], header[other] = header[other], header[name]
    else:
        facts = json.loads(header["__metadata__"]["facts"])
        facts["names"][1:3] = facts["names"][2:0:-1]
        header["__metadata__"]["facts"] = json.dumps(facts, sort_keys=True)
    return joined(header, tensors)


def narrow(content: bytes, generator: Generator) -> bytes:
    """bfloat16 weights that fit their place."""
    header, tensors = parts(content)
    for entry in header.values():
        if entry.get("dtype") == "F32":
            entry["dtype"], entry["shape"] = "BF16", [2, *entry["shape"]]
    return joined(header, tensors)


def spoil(content: bytes, generator: Generator, trap: Path) -> tuple[str, bytes]:
    """(kind, file)."""
    group = str(
        generator.choice(
            ["bytes", "header", "forged", "facts", "narrow", "pickle"], p=[0.4, 0.2, 0.25, 0.05, 0.05, 0.05]
        )
    )
    if group == "bytes":
        name = str(generator.choice(list(BYTES)))
        return name, BYTES[name](content, generator)
    if group == "forged":
        name = str(generator.choice(list(FORGERIES)))
        return f"forged/{name}", forge(content, FORGERIES[name])
    if group == "facts":
        index = int(generator.integers(len(TEXTS)))
        return f"facts/{index}", with_facts(*parts(content), TEXTS[index])
    if group == "pickle":
        return group, pickles(trap)[int(generator.integers(3))]
    return group, {"header": edit_header, "narrow": narrow}[group](content, generator)


def check(path: Path, content: bytes, generator: Generator) -> tuple[str, str]:
    """Spoil a model and load it; (kind, verdict)."""
    trap = path.with_name("trap")
    kind, raw = spoil(content, generator, trap)
    path.write_bytes(raw)
    found = refusal_of(load_model, path)
    assert not trap.exists(), f"{kind}: code in the file was run"
    if found is REFUSED:
        return f"model/{kind}", "refused"
    path.write_bytes(content)
    saved = load_model(path)
    assert (found.settings, found.names, found.sha256) == (saved.settings, saved.names, saved.sha256), kind
    state, expected = found.networks.state_dict(), saved.networks.state_dict()  # type: ignore[union-attr]
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected), kind
    return f"model/{kind}", "read"
