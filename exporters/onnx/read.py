"""Read and check an exported ONNX file, which may be damaged or hostile, before a runtime does."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icsnn_deploy.errors import DataError, ExportError, first_line
from icsnn_deploy.exporters.onnx.contract import (
    BATCH,
    FOLDED,
    INPUT,
    MAX_BYTES,
    tensor_name,
)
from icsnn_deploy.exporters.onnx.external_data import read_parameters
from icsnn_deploy.exporters.onnx.metadata import CONTENT_KEY, OnnxMetadata, content_hash
from icsnn_deploy.exporters.onnx.parts import input_names
from icsnn_deploy.exporters.onnx.parts_read import check_outputs, read_input
from icsnn_deploy.exporters.onnx.read_checks import foreign
from icsnn_deploy.exporters.onnx.text import is_utf8
from icsnn_deploy.graph.arrangement import is_plain, place_parts, unpack_input
from icsnn_deploy.graph.limits import MAX_VALUES
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input, InputDtype, Shape

if TYPE_CHECKING:
    import onnx

_REMEDY = "Export the network again with icsnn_deploy.exporters.onnx.write"


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxFile:
    """An exported file that passed every check."""

    path: Path
    data: bytes  # the content of the file
    parameters: Mapping[str, Array]  # those in the second file
    metadata: OnnxMetadata
    input: Input  # how the network's input is packed from the file's inputs
    output_shape: Shape
    outputs: frozenset[str]
    sample_bytes: int  # of the largest tensor, for one sample

    @property
    def input_dtype(self) -> InputDtype:
        return self.input.dtype

    @property
    def input_shape(self) -> Shape:
        """Shape of one sample, as the network takes it."""
        return self.input.shape

    def feed(self, x: Array) -> dict[str, Array]:
        """The file's inputs by name for the input of the network.

        Args:
            x: [N, *input_shape]; [T, N, *input_shape] for rate and event input, but one step of it
                for the step layout.

        Raises:
            DataError: values that no inputs of the model give: other than 0 where the network's
                input is always 0, or different ones where it takes one value twice.
        """
        found, node = self.split(x), self.input
        if not is_plain(node.parts, node.index, node.shape):
            values = unpack_input(node, x)
            if not np.array_equal(place_parts(node, values), x):
                raise DataError(
                    f"{self.path}: input values that {' and '.join(values)} can't give together; "
                    "pack the model's inputs with icsnn_deploy.pack_inputs"
                )
        return found

    def split(self, x: Array) -> dict[str, Array]:
        """The file's inputs by name; as feed, but values that they can't give are left out."""
        node = self.input
        if is_plain(node.parts, node.index, node.shape):
            return {INPUT: x}
        return dict(zip(input_names(node), unpack_input(node, x).values(), strict=True))


def read(path: str | os.PathLike[str]) -> OnnxFile:
    """Read a file that exporters.onnx wrote.

    Raises:
        ExportError: names the file, what is wrong with it, and the remedy.
    """
    try:
        return _read(Path(path))
    except ExportError as error:
        raise ExportError(f"{path}: {error}. {_REMEDY}") from error.__cause__


def parse(data: bytes) -> onnx.ModelProto:
    """Parse a serialized model; raises ExportError."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise ExportError("not an ONNX file, or truncated") from error
    return model


def _read(path: Path) -> OnnxFile:
    data = _bytes(path)
    model = parse(data)
    if not is_utf8(model):
        raise ExportError("names or metadata that are not UTF-8: damaged or changed")
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if len(entries) != len(model.metadata_props):
        raise ExportError("a metadata entry stands twice")
    if CONTENT_KEY not in entries:
        raise ExportError(f"no metadata {CONTENT_KEY!r}: truncated, or not from icsnn-deploy")
    if content_hash(data, entries[CONTENT_KEY]) != entries[CONTENT_KEY]:
        raise ExportError("the content does not match its own sha256: damaged or changed")
    metadata = OnnxMetadata.parse(entries)
    for problem in foreign(model, metadata):
        raise ExportError(problem)
    shapes = _shapes(model, metadata.time_steps)
    _check_populations(metadata, shapes)
    parameters = read_parameters(path, model, metadata.data)
    return _described(path, data, parameters, model, metadata, shapes)


def _bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe may block, a device may never end
            raise ExportError("not a regular file")
        if not 0 < status.st_size <= MAX_BYTES:
            raise ExportError(f"{status.st_size} bytes: an ONNX file holds 1 to {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"can't be read: {error.strerror or error}") from error


def _shapes(model: onnx.ModelProto, time_steps: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor as onnx infers it, with 0 for an unknown size; runs its checker."""
    import onnx

    slim = onnx.ModelProto()
    slim.CopyFrom(model)
    del slim.graph.initializer[:]
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            # Shape inference never looks into float data, which is nearly all of the file.
            slim.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        else:
            slim.graph.initializer.append(tensor)
    del slim.graph.value_info[:]  # compared below, not trusted
    try:
        onnx.checker.check_model(slim)
        inferred = onnx.shape_inference.infer_shapes(slim, check_type=True, strict_mode=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,  # a data type that onnx does not know, or text that is not UTF-8
        RuntimeError,
    ) as error:
        raise ExportError(f"onnx's checker rejects it: {first_line(error):.200}") from error
    found = {info.name: info for info in [*inferred.graph.value_info, *inferred.graph.output]}
    for info in model.graph.value_info:
        _check_claim(info, found)
    shapes = {}
    for name, info in found.items():
        shapes[name] = tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        if _sample_values(shapes[name], time_steps) > MAX_VALUES:
            raise ExportError(f"tensor {name[:80]!r} of shape {shapes[name]}: too large")
    return shapes


def _sample_values(shape: tuple[int, ...], time_steps: int) -> int:
    """Values for one sample and step: without the steps of a tensor [T, N, ...]."""
    one_step = shape[1:] if shape[:2] == (time_steps, 0) else shape
    return math.prod(size or 1 for size in one_step)


def _sample_bytes(shapes: Mapping[str, tuple[int, ...]], metadata: OnnxMetadata) -> int:
    """Bytes of the largest tensor for one sample; an unknown first size may be all T steps."""
    folded = metadata.time_steps if metadata.layout in ("folded", "scan") else 1
    return 4 * max(
        math.prod(size or 1 for size in shape) * (folded if shape[:1] == (0,) else 1)
        for shape in shapes.values()
    )


def _check_claim(info: onnx.ValueInfoProto, found: Mapping[str, onnx.ValueInfoProto]) -> None:
    """Check that the shape stated for an inner tensor follows from its operators."""
    if info.name not in found:
        raise ExportError(f"a shape for {info.name[:80]!r}, which is no tensor")
    claimed, known = info.type.tensor_type, found[info.name].type.tensor_type
    pairs = list(zip(claimed.shape.dim, known.shape.dim, strict=False))
    if (
        claimed.elem_type != known.elem_type
        or len(claimed.shape.dim) != len(known.shape.dim)
        or any(stated.dim_value != dim.dim_value for stated, dim in pairs)
        or any(
            not stated.dim_value and stated.dim_param not in (BATCH, FOLDED) for stated, _ in pairs
        )
    ):
        raise ExportError(f"tensor {info.name[:80]!r} has another shape than the file says")


def _check_populations(metadata: OnnxMetadata, shapes: dict[str, tuple[int, ...]]) -> None:
    """Check that the model has the populations of the metadata, in their shapes, at T steps."""
    steps = metadata.time_steps
    for name, shape in metadata.populations.items():
        if metadata.layout == "step":
            found = shapes.get(tensor_name(name, "s"), ())[1:]
        elif metadata.layout == "unrolled":
            found = shapes.get(tensor_name(name, "s", steps), ())[1:]
        else:
            stacked = shapes.get(tensor_name(name, "s"), ())
            found = stacked[2:] if stacked[:1] == (steps,) else ()
        if found != shape or tensor_name(name, "s", steps + 1) in shapes:
            raise ExportError(f"population {name[:80]!r} of the metadata is not so in the model")


def _described(
    path: Path,
    data: bytes,
    parameters: Mapping[str, Array],
    model: onnx.ModelProto,
    metadata: OnnxMetadata,
    shapes: Mapping[str, tuple[int, ...]],
) -> OnnxFile:
    """Check the model's inputs and outputs against the metadata, and describe the file."""
    inputs = {info.name: info for info in model.graph.input}
    outputs = {info.name: info for info in model.graph.output}
    step = metadata.layout == "step"
    readout = metadata.readout
    names = (INPUT,) if metadata.inputs is None else metadata.inputs.tensors
    states = [tensor_name(name, "v_in") for name in metadata.populations] if step else []
    if set(inputs) != {*names, *states} or readout not in outputs:
        raise ExportError("its inputs and outputs are not those of its layout")
    if step and not {tensor_name(name, "v_out") for name in metadata.populations} <= set(outputs):
        raise ExportError("a population has no v_out")
    steps = metadata.time_steps if metadata.is_timed and not step else None
    shape = metadata.inputs and metadata.inputs.shape
    source = Input(
        name=INPUT,
        shape=shape or _sample_shape(inputs[INPUT], steps),
        dtype=_dtype(inputs[names[0]]),
        encoding=metadata.encoding,
    )
    output_shape = _sample_shape(outputs[readout], None)
    source = read_input(model, metadata.inputs, source, steps)
    check_outputs(model, metadata.outputs, output_shape, readout, names)
    return OnnxFile(
        path=path,
        data=data,
        parameters=parameters,
        metadata=metadata,
        input=source,
        output_shape=output_shape,
        outputs=frozenset(outputs),
        sample_bytes=_sample_bytes(shapes, metadata),
    )


def _dtype(info: onnx.ValueInfoProto) -> InputDtype:
    from onnx import TensorProto

    allowed: dict[int, InputDtype] = {
        TensorProto.FLOAT: "float32",
        TensorProto.UINT8: "uint8",
        TensorProto.INT8: "int8",
        TensorProto.INT16: "int16",
    }
    element = info.type.tensor_type.elem_type
    if element not in allowed:
        raise ExportError(f"its input is of element type {element}, which an export never has")
    return allowed[element]


def _sample_shape(info: onnx.ValueInfoProto, time_steps: int | None) -> Shape:
    """The shape after the time axis (if any) and the batch axis."""
    dims = list(info.type.tensor_type.shape.dim)
    if time_steps is not None and (not dims or dims.pop(0).dim_value != time_steps):
        raise ExportError(f"{info.name}: its first axis is not the {time_steps} steps")
    shape = tuple(dim.dim_value for dim in dims[1:])
    if not dims or dims[0].dim_value or not shape or min(shape) < 1:
        raise ExportError(f"{info.name}: not of the shape [N, ...] with fixed sizes behind N")
    return shape
