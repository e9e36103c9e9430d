"""Read an ONNX file, which may be damaged or hostile, and check it before anything is computed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from icsnn_deploy.conversion.frontend.onnx_model.module import (
    OnnxContent,
    OnnxModule,
    Step,
    onnx_module,
)
from icsnn_deploy.conversion.frontend.onnx_model.names import node_paths, shown
from icsnn_deploy.conversion.frontend.onnx_model.node_inputs import check_inputs
from icsnn_deploy.conversion.frontend.onnx_model.operator_node import OperatorNode
from icsnn_deploy.conversion.frontend.onnx_model.refusals import LATEST, OLDEST, refusals
from icsnn_deploy.conversion.frontend.onnx_model.tensors import inside, tensor
from icsnn_deploy.conversion.frontend.onnx_model.types import BFLOAT16, FLOAT16, INPUT_TYPES
from icsnn_deploy.errors import (
    ConversionError,
    DataError,
    IcsnnError,
    UnsupportedOperatorError,
    first_line,
)

if TYPE_CHECKING:
    import onnx

MOST_BYTES = 2**31 - 1
"""Largest model, its constants in other files included: a runtime takes it in one message."""

_LARGEST, _LARGEST_BATCH = 2**16, 2**10
"""Sizes of windows and of inputs; samples in a batch of fixed size."""

_EXPORTED = "content_sha256"
"""Metadata that the exporters of this package write."""


def read_onnx(path: str | os.PathLike[str]) -> OnnxModule:
    """The network in an ONNX file, as a model in eval mode.

    Nothing in the file is run. Constants may lie in files beside it.

    Args:
        path: a file of operator set 7 or later, with real inputs [B, ...].

    Raises:
        DataError: not a readable ONNX file, or one whose parts do not fit together.
        ConversionError: a model of another kind, such as one with integer inputs.
        UnsupportedOperatorError: operators that are not read, all of them.
    """
    path = Path(path)
    model = _parse(path)
    try:
        return onnx_module(_content(path, model))
    except IcsnnError:
        raise
    except Exception as error:  # what protobuf and NumPy raise on a damaged file
        raise DataError(f"{path}: a damaged ONNX file ({first_line(error):.200})") from error


def _parse(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: not a regular file; an ONNX file is needed")
        if status.st_size > MOST_BYTES:
            raise DataError(f"{path}: {status.st_size:,} bytes; at most {MOST_BYTES:,} are allowed")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise DataError(f"{path}: not an ONNX file, or truncated") from error
    if not model.HasField("graph") or not model.graph.node:
        raise DataError(f"{path}: not an ONNX file, or one without operators")
    return model


def _content(path: Path, model: onnx.ModelProto) -> OnnxContent:
    opset = _opset(path, model)
    graph = model.graph
    budget = [MOST_BYTES]
    for one in _stored(graph):
        inside(path, one, budget)
    constants = {one.name: tensor(path, one) for one in graph.initializer}
    nodes = [node for node in graph.node if not _is_constant(node)]
    for node in graph.node:
        if _is_constant(node):
            constants[node.output[0]] = _constant(path, node)
    inputs = [one for one in graph.input if one.name not in constants]
    outputs = [one.name for one in graph.output]
    kept = _needed(path, nodes, {*constants, *(one.name for one in inputs)}, outputs)
    named = dict(zip(node_paths(kept), kept, strict=True))
    rejected = refusals(named, constants, outputs)
    if rejected:
        raise UnsupportedOperatorError(rejected)
    shapes = [_shape(path, one) for one in inputs]
    if not inputs or not outputs:
        raise ConversionError(f"{path}: a model without inputs or outputs")
    steps = _steps(path, named, opset)
    used = {name for step in steps for name in step.inputs} | set(outputs)
    types = {one.data_type for one in _stored(graph)}
    types |= {step.node.get("to") for step in steps if step.node.kind == "Cast"}
    types |= {one.type.tensor_type.elem_type for one in inputs}
    return OnnxContent(
        steps=steps,
        tensors={name: value for name, value in constants.items() if name in used},
        inputs=[one.name for one in inputs],
        input_types=[INPUT_TYPES[one.type.tensor_type.elem_type] for one in inputs],
        input_shapes=shapes,
        outputs=outputs,
        low_precision=bool(types & {FLOAT16, BFLOAT16}),
        data=model.SerializeToString(),
        source=str(path),
    )


def _opset(path: Path, model: onnx.ModelProto) -> int:
    """The version of the standard operators; raises for what is no plain model."""
    if any(entry.key == _EXPORTED for entry in model.metadata_props):
        raise ConversionError(
            f"{path}: a spiking network that icsnn export wrote; the trained network is needed"
        )
    versions = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    if len(versions) != 1 or not OLDEST <= versions[0] <= LATEST:
        raise ConversionError(
            f"{path}: operator sets {versions} of the standard domain; one from {OLDEST} to "
            f"{LATEST} is needed. Export the model again with opset_version=18"
        )
    if model.functions:
        raise ConversionError(
            f"{path}: holds functions, such as {model.functions[0].name[:60]!r}; plain operators "
            "are needed. Inline them: onnx.save(onnx.inliner.inline_local_functions(onnx.load(a)), "
            "b)"
        )
    if model.graph.sparse_initializer:
        raise ConversionError(f"{path}: holds sparse constants; dense ones are needed")
    return int(versions[0])


def _stored(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the file holds."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1


def _constant(path: Path, node: onnx.NodeProto) -> torch.Tensor:
    """The value of a Constant node, in any of the attributes that may hold it."""
    values = _attributes(path, node)
    (name, value) = next(iter(values.items()), ("", None))
    if len(values) != 1 or isinstance(value, str) or value is None:
        raise ConversionError(
            f"{path}: Constant {node.output[0][:80]!r} with {name or 'nothing'}: a dense value of "
            "numbers is needed"
        )
    if isinstance(value, torch.Tensor):
        return value
    kind = torch.float32 if name.startswith("value_float") else torch.int64
    return torch.tensor(value, dtype=kind)


def _needed(
    path: Path, nodes: list[onnx.NodeProto], known: set[str], outputs: list[str]
) -> list[onnx.NodeProto]:
    """The nodes that lead to outputs, in an order in which each finds its inputs."""
    made = set(known)
    for node in nodes:
        missing = [name for name in node.input if name and name not in made]
        twice = [name for name in node.output if name and name in made]
        if missing or twice:
            problem, name = ("not made before it", missing) if missing else ("made twice", twice)
            raise DataError(
                f"{path}: {shown(node.op_type)} {node.name[:80]!r}: the tensor {name[0][:80]!r} is "
                f"{problem}. Check the file with onnx.checker.check_model"
            )
        made.update(node.output)
    absent = [name for name in outputs if name not in made]
    if absent:
        raise DataError(f"{path}: no node makes the output {absent[0][:80]!r}")
    wanted, kept = set(outputs), list[Any]()
    for node in reversed(nodes):
        if wanted.intersection(name for name in node.output if name):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _shape(path: Path, value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    """The shape of an input, None for a size that is free; None for any shape."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in INPUT_TYPES:
        raise ConversionError(
            f"{path}: the input {value.name[:80]!r} is no tensor of real numbers, which is needed. "
            "Export the model without the conversion of its input, such as from uint8"
        )
    if not kind.HasField("shape"):
        return None
    sizes = [int(axis.dim_value) for axis in kind.shape.dim]
    if any(size > _LARGEST for size in sizes) or (sizes and sizes[0] > _LARGEST_BATCH):
        raise ConversionError(
            f"{path}: the input {value.name[:80]!r} has the shape {sizes[:8]}; at most "
            f"{_LARGEST_BATCH} samples and sizes of {_LARGEST} are allowed. Export the model with "
            "a free batch axis"
        )
    return tuple(size if size > 0 else None for size in sizes)


def _steps(path: Path, nodes: Mapping[str, onnx.NodeProto], opset: int) -> list[Step]:
    steps = []
    for name, node in nodes.items():
        outputs = list(node.output)
        while outputs and not outputs[-1]:
            outputs.pop()
        check_inputs(path, name, node, opset)
        operator = OperatorNode(
            kind=node.op_type,
            path=name,
            opset=opset,
            attributes=_attributes(path, node),
            outputs=len(outputs),
        )
        steps.append(Step(node=operator, inputs=tuple(node.input), outputs=tuple(outputs)))
    return steps


_BOUNDED = {"pads", "strides", "dilations", "kernel_shape", "output_padding", "output_shape"}
_BOUNDED |= {"group", "blocksize", "num_outputs", "size"}


def _attributes(path: Path, node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as numbers, strings, lists and tensors.

    Raises:
        ConversionError: an attribute of another kind, or a window larger than any network has.
    """
    from onnx import AttributeProto, helper

    plain = {AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING}
    plain |= {AttributeProto.FLOATS, AttributeProto.INTS}
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        where = (
            f"{path}: {shown(node.op_type)} {node.name[:80]!r}: attribute {attribute.name[:60]!r}"
        )
        if attribute.type == AttributeProto.TENSOR:
            found[attribute.name] = tensor(path, attribute.t)
            continue
        if attribute.type not in plain:
            raise ConversionError(f"{where} is no number, string, tensor, or list of numbers")
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif not isinstance(value, (int, float, str)):
            value = list(value)
        sizes = value if isinstance(value, list) else [value]
        if attribute.name in _BOUNDED and any(abs(size) > _LARGEST for size in sizes):
            raise ConversionError(f"{where} is {sizes[:8]}; at most {_LARGEST} is allowed")
        found[attribute.name] = value
    return found
