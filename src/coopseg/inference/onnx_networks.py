"""Runs the networks of an ONNX file with ONNX Runtime.

A file by `coopseg export` ends in a metadata entry that holds the SHA-256 of everything before it. Protocol
buffers allow that: fields may follow in any order, so the file is the same graph with and without its end.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from coopseg.errors import CoopsegError
from coopseg.text import one_line, read_bytes, shorten, whole_number

if TYPE_CHECKING:
    import onnxruntime

FORMAT = "coopseg-onnx-1"
INSTALL = 'pip install "coopseg[onnx]"'
INPUT = "image"
OUTPUTS = {"FTN": "FTN", "FTN+STN": "FTN_STN"}  # names in ONNX follow the rules of C: no plus sign
# Starts field 14 (metadata_props) of 74 bytes: the key "sha256", then a value, whose 64 bytes follow.
SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
DIGITS = 64


class OnnxNetworks:
    """Runs FTN and, in most files, STN on the processor; several threads may call it at once.

    refinements: how often the file applies the STN; 0 for a file of the FTN alone.
    """

    def __init__(self, session: onnxruntime.InferenceSession, *, refinements: int, path: Path) -> None:
        self.session = session
        self.refinements = refinements
        self.path = path

    def check(self, *, refinements: int, precision: str = "32") -> None:
        """Raise CoopsegError if the file cannot do what is asked."""
        if precision != "32":
            raise CoopsegError(f"{self.path}: an ONNX file computes in float32; leave --precision out")
        if refinements not in (0, self.refinements):
            allowed = " or ".join(str(times) for times in sorted({0, self.refinements}))
            raise CoopsegError(
                f"{self.path}: the file applies the STN {self.refinements} times, {refinements} are asked "
                f"for; use --refine {allowed}, or export again with --refine {refinements}"
            )

    def __call__(self, image: Tensor, *, refinements: int) -> dict[str, Tensor]:
        """Returns each head's class probabilities, (B, classes, H, W), for images (B, 1, H, W) in [0, 1]."""
        import onnxruntime

        heads = ("FTN", "FTN+STN") if refinements else ("FTN",)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("only_execute_path_to_fetches", "1")  # the FTN alone costs half
        found = self.session.run([OUTPUTS[head] for head in heads], {INPUT: image.numpy()}, options)
        return {head: torch.from_numpy(values) for head, values in zip(heads, found, strict=True)}


def seal(content: bytes) -> bytes:
    """Appends its SHA-256 to a serialised ModelProto."""
    return content + SEAL + hashlib.sha256(content).hexdigest().encode()


def open_onnx(file: Path) -> tuple[OnnxNetworks, dict[str, str]]:
    """Opens a file that `coopseg export` wrote; returns its networks and its metadata.

    Raises CoopsegError for a file of other origin, for damage, and if ONNX Runtime is missing. Nothing of a
    file is given to ONNX Runtime before its SHA-256 has been checked.
    """
    content = _read(file)
    try:
        session = start_session(content)
    except ImportError:
        raise CoopsegError(f"{file}: ONNX Runtime is not installed; {INSTALL}") from None
    except Exception as error:  # ONNX Runtime's own errors have no narrower base class
        raise CoopsegError(f"{file}: ONNX Runtime refuses it ({one_line(error)}); export it again") from None
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    refinements = whole_number(metadata.get("refinements", ""))
    if metadata.get("format") != FORMAT or refinements is None:
        found = shorten(metadata.get("format"))
        raise CoopsegError(f"{file}: format {found} is not known; take the version of coopseg that wrote it")
    return OnnxNetworks(session, refinements=refinements, path=file), metadata


def start_session(content: bytes) -> onnxruntime.InferenceSession:
    """Starts a session on the processor, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _read(file: Path) -> bytes:
    try:
        content = read_bytes(file)
    except OSError as error:
        raise CoopsegError(f"{file}: cannot be read ({one_line(error)}); check the path") from None
    end = len(content) - DIGITS
    body = end - len(SEAL)
    if body <= 0 or content[body:end] != SEAL:
        raise CoopsegError(
            f"{file}: not an ONNX file by coopseg, or cut off; write one with `coopseg export`"
        )
    if hashlib.sha256(memoryview(content)[:body]).hexdigest().encode() != content[end:]:
        raise CoopsegError(f"{file}: damaged, its content does not match its SHA-256; copy it again")
    return content
