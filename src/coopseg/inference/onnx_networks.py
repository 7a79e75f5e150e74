"""Runs the networks of an ONNX file with ONNX Runtime, once the graph has been found harmless.

A file by `coopseg export` ends in a metadata entry that holds the SHA-256 of everything before it. Protocol
buffers allow that: fields may follow in any order, so the file is the same graph with and without its end.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from coopseg.config.settings import NetworkSettings
from coopseg.errors import CoopsegError
from coopseg.text import one_line, read_bytes, shorten, whole_number

if TYPE_CHECKING:
    import onnx
    import onnxruntime

FORMAT = "coopseg-onnx-1"
INSTALL = 'pip install "coopseg[onnx]"'
INPUT = "image"
OUTPUTS = {"FTN": "FTN", "FTN+STN": "FTN_STN"}  # names in ONNX follow the rules of C: no plus sign
# Starts field 14 (metadata_props) of 74 bytes: the key "sha256", then a value, whose 64 bytes follow.
SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
DIGITS = 64
MOST_BYTES = 2**31  # of protocol buffers
# What our files are made of, and other networks for segmentation: nothing that repeats, and no tensor that is
# made from its size alone.
OPERATORS = frozenset([
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant",
    "Conv", "ConvTranspose", "Div", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather",
    "Gemm", "GlobalAveragePool", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Log", "MatMul", "Max", "MaxPool", "Min",
    "Mish", "Mul", "Neg", "PRelu", "Pad", "Pow", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceSum", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "Softplus",
    "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze", "Where",
])  # fmt: skip
PLAIN = ("FLOAT", "INT", "STRING", "TENSOR", "FLOATS", "INTS", "STRINGS")  # attributes without graphs
BATCHES = (1, 2**16)  # images for which all shapes are worked out: what grows faster than the batch shows
MOST_CHANNELS = 16  # most values per pixel of the images, in units of the network's width or its classes
MOST_CONSTANT = 4096  # values that no image decides


class OnnxNetworks:
    """Runs FTN and, in most files, STN on the processor; several threads may call it at once.

    refinements: how often the file applies the STN; 0 for a file of the FTN alone.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, *, classes: int, refinements: int, path: Path
    ) -> None:
        self.session = session
        self.classes = classes
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
        """Returns each head's class probabilities, (B, classes, H, W), for images (B, 1, H, W) in [0, 1].

        Raises CoopsegError if ONNX Runtime fails, or gives anything of another shape or type.
        """
        import onnxruntime

        heads = ("FTN", "FTN+STN") if refinements else ("FTN",)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("only_execute_path_to_fetches", "1")  # the FTN alone costs half
        try:
            found = self.session.run([OUTPUTS[head] for head in heads], {INPUT: image.numpy()}, options)
        except Exception as error:  # ONNX Runtime's own errors have no narrower base class
            raise CoopsegError(
                f"{self.path}: ONNX Runtime fails ({one_line(error)}); export it again"
            ) from None
        expected = (len(image), self.classes, *image.shape[2:])
        for values in found:
            if values.shape != expected or values.dtype != np.float32:
                raise CoopsegError(
                    f"{self.path}: gives {values.dtype} of shape {values.shape} in the place of float32 of "
                    f"shape {expected}; export it again"
                )
        return {head: torch.from_numpy(values) for head, values in zip(heads, found, strict=True)}


def seal(content: bytes) -> bytes:
    """Appends its SHA-256 to a serialised ModelProto."""
    return content + SEAL + hashlib.sha256(content).hexdigest().encode()


@dataclass(frozen=True)
class OnnxFile:
    """Holds an ONNX file by `coopseg export` that is whole, and whose graph has not been run.

    metadata: what `export` wrote beside the graph.
    """

    path: Path
    content: bytes
    model: onnx.ModelProto
    metadata: dict[str, str]
    refinements: int

    @property
    def graph(self) -> onnx.GraphProto:
        """Returns the operators and weights."""
        return self.model.graph


def read_onnx(file: Path) -> OnnxFile:
    """Reads a file that `coopseg export` wrote, and runs nothing.

    Raises CoopsegError for a file of other origin, for damage, and if the extra `onnx` is missing.
    """
    content = _read(file)
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError:
        raise CoopsegError(f"{file}: ONNX Runtime is not installed; {INSTALL}") from None
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # its base class is that of whichever protobuf is installed
        raise CoopsegError(f"{file}: holds no ONNX graph ({one_line(error)}); export it again") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    refinements = whole_number(metadata.get("refinements", ""))
    if metadata.get("format") != FORMAT or refinements is None:
        found = shorten(metadata.get("format"))
        raise CoopsegError(f"{file}: format {found} is not known; take the version of coopseg that wrote it")
    return OnnxFile(file, content, model, metadata, refinements)


def open_onnx(
    file: OnnxFile, *, classes: int, size: tuple[int, int], network: NetworkSettings
) -> OnnxNetworks:
    """Opens the networks of a file for images of `size` (H, W).

    network: its channels are those of the images; its width and the classes bound every array between the
    layers.
    Raises CoopsegError for a graph with operators of other kinds, arrays that are too large or whose shape
    is not known before it runs, outputs of another shape, and weights that are NaN or infinite. Only then is
    the file given to ONNX Runtime.
    """
    _check_operators(file)
    _check_weights(file)
    for batch in BATCHES:
        _check_shapes(file, (batch, *size), classes=classes, network=network)
    try:
        session = start_session(file.content)
    except Exception as error:  # ONNX Runtime's own errors have no narrower base class
        raise CoopsegError(
            f"{file.path}: ONNX Runtime refuses it ({one_line(error)}); export it again"
        ) from None
    return OnnxNetworks(session, classes=classes, refinements=file.refinements, path=file.path)


def _check_operators(file: OnnxFile) -> None:
    import onnx

    names = (f"{node.domain}.{node.op_type}".lstrip(".") for node in file.graph.node)
    plain = {onnx.AttributeProto.AttributeType.Value(name) for name in PLAIN}
    parts = {
        "operators of its own": len(file.model.functions) + len(file.model.training_info),
        "sparse weights": len(file.graph.sparse_initializer),
        "graphs within operators": sum(
            attribute.type not in plain or bool(attribute.ref_attr_name)
            for node in file.graph.node
            for attribute in node.attribute
        ),
        "weights in other files": sum(
            tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data) > 0
            for tensor in _tensors(file.graph)
        ),
    }
    foreign = [f"the operator {shorten(name)}" for name in names if name not in OPERATORS]
    foreign += [what for what, count in parts.items() if count]
    if foreign:
        raise CoopsegError(f"{file.path}: holds {foreign[0]}, which no file by coopseg does; export it again")


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    inside = (attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t"))
    return [*graph.initializer, *inside]


def _check_weights(file: OnnxFile) -> None:
    from onnx.numpy_helper import to_array

    for tensor in _tensors(file.graph):
        try:
            values = to_array(tensor)
        except Exception as error:  # of any kind, for a size that the values do not have
            raise CoopsegError(
                f"{file.path}: {shorten(tensor.name)} cannot be read ({one_line(error)}); export it again"
            ) from None
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise CoopsegError(
                f"{file.path}: {shorten(tensor.name)} holds NaN or infinity; train and export again"
            )


def _check_shapes(
    file: OnnxFile, images: tuple[int, int, int], *, classes: int, network: NetworkSettings
) -> None:
    """Works out the shape of every array from the graph alone: what the file itself says of them is ignored.

    images: (B, H, W).
    """
    import onnx
    from onnx.shape_inference import infer_shapes

    model, (batch, height, length) = onnx.ModelProto(), images
    model.CopyFrom(file.model)
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    found = [value.name for value in model.graph.input]
    if found != [INPUT]:
        raise CoopsegError(f"{file.path}: takes {shorten(found)} and not {INPUT!r} alone; export it again")
    given = onnx.helper.make_tensor_value_info(
        INPUT, onnx.TensorProto.FLOAT, (batch, network.channels, height, length)
    )
    model.graph.input[0].CopyFrom(given)
    try:
        graph = infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    except Exception as error:  # ONNX's own errors have no narrower base class
        raise CoopsegError(
            f"{file.path}: its shapes contradict one another ({one_line(error)}); export it again"
        ) from None
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.output)}
    widest = max(network.width, network.channels, classes)
    most = MOST_CONSTANT + MOST_CHANNELS * widest * math.prod(images)
    for name in (name for node in graph.node for name in node.output if name):
        shape = shapes.get(name)
        if shape is None or math.prod(shape) > most:
            known = "of unknown size" if shape is None else f"of shape {shape}"
            raise CoopsegError(
                f"{file.path}: for {batch} images it makes an array {known} ({shorten(name)}), which no file "
                "by coopseg does; export it again"
            )
    outputs = {value.name: shapes[value.name] for value in graph.output}
    expected = (batch, classes, height, length)
    heads = list(OUTPUTS.values())[: 2 if file.refinements else 1]
    if outputs != dict.fromkeys(heads, expected):
        raise CoopsegError(
            f"{file.path}: gives {shorten(outputs)} and not {heads} of shape {expected}; export it again"
        )


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """Returns the shape of an array, None if it is not known."""
    kind = value.type.tensor_type
    known = kind.HasField("shape") and all(side.HasField("dim_value") for side in kind.shape.dim)
    return tuple(side.dim_value for side in kind.shape.dim) if known else None


def start_session(content: bytes) -> onnxruntime.InferenceSession:
    """Starts a session on the processor, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _read(file: Path) -> bytes:
    try:
        if os.stat(file).st_size >= MOST_BYTES:
            raise CoopsegError(f"{file}: {MOST_BYTES} bytes or more are no ONNX file; export it again")
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
