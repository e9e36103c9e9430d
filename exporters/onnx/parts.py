"""The model's own inputs and outputs as tensors of an ONNX file, written and checked.

    part [N, ...] -> Reshape -+-> Concat -> Gather -> Reshape -> network's input [N, *shape]
    part [N, ...] -> Reshape -+

    readout -> Reshape -> Slice or Gather -> Reshape -> Mul -> part [N, ...]

Mul applies the unit of the output, so that a part holds the model's own values. Each operator is
left out where it would change nothing. A network whose input or output is the one tensor of the
model has "x" or "logits" alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from icsnn_deploy.errors import ExportError, GraphError
from icsnn_deploy.exporters.onnx.contract import (
    INPUT,
    constant_name,
    input_tensors,
    output_tensors,
)
from icsnn_deploy.exporters.onnx.operators import OnnxWriter, batched
from icsnn_deploy.graph.arrangement import is_plain
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import part_units
from icsnn_deploy.graph.limits import MAX_AXES, MAX_VALUES
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.node import is_integer, is_positive
from icsnn_deploy.graph.nodes import Input, Output, Part, Shape
from icsnn_deploy.graph.parts import checked_parts

if TYPE_CHECKING:
    import onnx

_FLAT = constant_name("readout_flat")
_INPUT_INDEX, _INPUT_VALUES = constant_name("input_index"), constant_name("input_values")


@dataclass(frozen=True, kw_only=True)
class OutputPart:
    """One of the model's outputs, as the metadata describes it."""

    part: Part
    tensor: str  # name of the ONNX output
    start: int | None = None  # its first value, where its values follow each other in the readout
    unit: float | None = None  # what the readout's values are multiplied with


@dataclass(frozen=True, kw_only=True)
class InputParts:
    """The model's inputs, as the metadata describes them."""

    parts: tuple[Part, ...]
    tensors: tuple[str, ...]  # names of the ONNX inputs
    shape: Shape  # of the network's input, without time and batch


def describe_inputs(graph: Graph) -> InputParts | None:
    """The model's inputs; None where nothing is recorded."""
    node = graph.input
    if not node.parts:
        return None
    return InputParts(parts=node.parts, tensors=input_names(node), shape=node.shape)


def describe_outputs(graph: Graph, readout: str) -> tuple[OutputPart, ...]:
    """The model's outputs; empty where nothing is recorded.

    Args:
        graph: the network.
        readout: name of the tensor that the readout is.
    """
    node = graph.output
    if is_plain(node.parts, node.index, graph.shape(node.name)):
        return tuple(OutputPart(part=part, tensor=readout) for part in node.parts)
    units = part_units(graph) or (None,) * len(node.parts)
    tensors = output_tensors([part.name for part in node.parts], input_names(graph.input))
    return tuple(
        OutputPart(
            part=part,
            tensor=tensor,
            start=_start(positions),
            unit=None if unit in (None, 1.0) else unit,
        )
        for part, tensor, positions, unit in zip(
            node.parts, tensors, _positions(node), units, strict=True
        )
    )


def input_names(node: Input) -> tuple[str, ...]:
    """Names of the ONNX inputs that together are the network's input."""
    if is_plain(node.parts, node.index, node.shape):
        return (INPUT,)
    return input_tensors([part.name for part in node.parts])


def write_input(writer: OnnxWriter, node: Input, steps: int | None) -> str:
    """Declare the model's inputs, cast and pack them; returns the name of the network's input.

    Args:
        writer: the ONNX graph to add to.
        node: the input: [N, *shape] for direct encoding, else [T, N, *shape].
        steps: T; None for the step layout, which has no time axis.
    """
    if is_plain(node.parts, node.index, node.shape):
        return writer.network_input(node, steps)
    time = steps if node.is_timed else None
    lead = [0] if time is None else [0, 0]  # 0 keeps an axis
    axis = {"axis": len(lead)}
    flat = []
    for number, (part, tensor) in enumerate(zip(node.parts, input_names(node), strict=True)):
        writer.add_input(tensor, batched(part.shape, time), node.dtype)
        name = tensor
        if node.dtype != "float32":
            name = writer.cast(name, constant_name(f"input_{number}_float"), "float32")
        to = writer.integers([*lead, part.size])
        flat.append(writer.op("Reshape", [name, to], constant_name(f"input_{number}_flat")))
    index = None if node.index is None else node.index.reshape(-1)
    if index is not None and (index < 0).any():
        # a column of zeros after all parts, for the values that none of them gives
        ends = [writer.integers([end]) for end in (0, 1, len(lead))]
        column = writer.op("Slice", [flat[0], *ends], constant_name("input_column"))
        zero = writer.op("Mul", [column, writer.scalar(0)], constant_name("input_zero"))
        flat.append(zero)
        index = np.where(index < 0, sum(part.size for part in node.parts), index)
    x = flat[0]
    if len(flat) > 1:
        x = writer.op("Concat", flat, constant_name("inputs"), axis)
    if index is not None:
        places = writer.constant(_INPUT_INDEX, index)
        x = writer.op("Gather", [x, places], _INPUT_VALUES, axis)
    return writer.op("Reshape", [x, writer.integers([*lead, *node.shape])], constant_name("input"))


def write_outputs(
    writer: OnnxWriter, node: Output, shape: Shape, entries: Sequence[OutputPart], readout: str
) -> None:
    """Add an ONNX output for each of the model's outputs, unless the readout is the only one.

    Args:
        writer: the ONNX graph to add to, with the readout.
        node: the output node.
        shape: of the readout, without the batch.
        entries: describe_outputs of the network.
        readout: name of its tensor, [N, *shape].
    """
    if is_plain(node.parts, node.index, shape):
        return
    flat = readout
    if node.index is not None and len(shape) > 1:
        flat = writer.op("Reshape", [readout, writer.integers([0, math.prod(shape)])], _FLAT)
    for number, (entry, places) in enumerate(zip(entries, _positions(node), strict=True)):
        steps: list[tuple[str, str, dict[str, int]]] = []
        if places is not None and entry.start is None:
            steps.append(("Gather", writer.constant(_index_name(number), places), {"axis": 1}))
        elif places is not None:
            steps.append(("Slice", "", {}))
        if places is None or len(entry.part.shape) != 1:
            steps.append(("Reshape", writer.integers([0, *entry.part.shape]), {}))
        if entry.unit is not None:
            unit = np.array(entry.unit, np.float32)
            steps.append(("Mul", writer.constant(constant_name(f"output_{number}_unit"), unit), {}))
        x = flat
        for position, (operator, operand, attributes) in enumerate(steps):
            last = position == len(steps) - 1
            result = entry.tensor if last else _step_name(number, operator)
            operands = [operand]
            if operator == "Slice":
                begin = entry.start or 0
                ends = (begin, begin + entry.part.size, 1)  # of axis 1
                operands = [writer.integers([end]) for end in ends]
            x = writer.op(operator, [x, *operands], result, attributes)
        writer.add_output(entry.tensor, batched(entry.part.shape))


def _index_name(number: int) -> str:
    return constant_name(f"output_{number}_index")


def _step_name(number: int, operator: str) -> str:
    return constant_name(f"output_{number}_{operator.lower()}")


def _positions(node: Output) -> list[Array | None]:
    """For each part its positions in the readout; None without an index."""
    if node.index is None:
        return [None] * len(node.parts)
    ends = np.cumsum([part.size for part in node.parts])[:-1]
    return list(np.split(node.index, ends))


def _start(positions: Array | None) -> int | None:
    """The first of positions that follow each other; None for others."""
    if positions is None or (np.diff(positions) != 1).any():
        return None
    return int(positions[0])


# Metadata


def input_entries(inputs: InputParts | None) -> dict[str, str]:
    """The metadata entries of the model's inputs."""
    if inputs is None:
        return {}
    rows = [
        {"name": part.name, "shape": list(part.shape), "host_op": part.host_op, "tensor": tensor}
        for part, tensor in zip(inputs.parts, inputs.tensors, strict=True)
    ]
    return {"inputs": json.dumps(rows), "input_shape": json.dumps(list(inputs.shape))}


def output_entries(outputs: Sequence[OutputPart]) -> dict[str, str]:
    """The metadata entry of the model's outputs."""
    rows = [
        {
            "name": row.part.name,
            "shape": list(row.part.shape),
            "host_op": row.part.host_op,
            "tensor": row.tensor,
            **({} if row.start is None else {"start": row.start}),
            **({} if row.unit is None else {"unit": row.unit}),
        }
        for row in outputs
    ]
    return {"outputs": json.dumps(rows)} if rows else {}


def parse_inputs(entries: Mapping[str, str]) -> InputParts | None:
    """The model's inputs that the metadata describes; raises ExportError."""
    if "inputs" not in entries:
        return None
    rows = _rows("inputs", entries["inputs"], frozenset())
    shape = _json("input_shape", entries.get("input_shape", ""))
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= MAX_AXES
        or not all(is_integer(n, 1) for n in shape)
        or math.prod(shape) > MAX_VALUES
    ):
        raise ExportError("metadata input_shape is not a shape")
    return InputParts(
        parts=_parts("inputs", rows),
        tensors=tuple(row["tensor"] for row in rows),
        shape=tuple(shape),
    )


def parse_outputs(entries: Mapping[str, str]) -> tuple[OutputPart, ...]:
    """The model's outputs that the metadata describes; raises ExportError."""
    if "outputs" not in entries:
        return ()
    rows = _rows("outputs", entries["outputs"], frozenset({"start", "unit"}))
    for row in rows:
        start, unit = row.get("start", 0), row.get("unit", 1.0)
        if not is_integer(start, 0) or start > MAX_VALUES or not is_positive(unit):
            raise ExportError(f"metadata outputs: {row!r:.100}, with a start or unit that is none")
    return tuple(
        OutputPart(part=part, tensor=row["tensor"], start=row.get("start"), unit=row.get("unit"))
        for part, row in zip(_parts("outputs", rows), rows, strict=True)
    )


def _rows(key: str, text: str, optional: frozenset[str]) -> list[dict[str, Any]]:
    rows, needed = _json(key, text), {"name", "shape", "host_op", "tensor"}
    if not isinstance(rows, list) or not rows:
        raise ExportError(f"metadata {key} is not a list of tensors")
    for row in rows:
        good = isinstance(row, dict) and needed <= set(row) <= needed | optional
        if not good or not isinstance(row["tensor"], str):
            raise ExportError(f"metadata {key}: {row!r:.100}, {', '.join(sorted(needed))} needed")
    return rows


def _parts(key: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    try:
        return checked_parts(key, [[row["name"], row["shape"], row["host_op"]] for row in rows])
    except GraphError as error:
        raise ExportError(f"metadata {error!s:.300}") from error


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ExportError(f"metadata {key} is not JSON") from None


# Files


def gathered(inputs: InputParts | None, outputs: Sequence[OutputPart]) -> frozenset[str]:
    """Names of the tensors that may be results of Gather, which read_input and check_outputs check.

    A runtime takes positions from such a node's index: no other index is to reach it.
    """
    names = [
        name
        for number, row in enumerate(outputs)
        for name in (row.tensor, _step_name(number, "Gather"))
    ]
    return frozenset([*names, *([] if inputs is None else [_INPUT_VALUES])])


def read_input(
    model: onnx.ModelProto, inputs: InputParts | None, node: Input, steps: int | None
) -> Input:
    """The input node of a file, with its index, after checking how the file packs the parts.

    Args:
        model: parsed; its operators are those of the exporter.
        inputs: as the metadata describes them.
        node: the input without parts.
        steps: as for write_input.

    Raises:
        ExportError: the parts are not packed as the exporter does it.
    """
    if inputs is None:
        return node
    index, total = _constant(model, _INPUT_INDEX), sum(part.size for part in inputs.parts)
    try:
        held = None
        if index is not None:
            held = np.where(index == total, -1, index).reshape(inputs.shape)
        found = Input(
            name=node.name,
            shape=inputs.shape,
            dtype=node.dtype,
            encoding=node.encoding,
            parts=inputs.parts,
            index=held,
        )
    except (GraphError, ValueError) as error:
        raise ExportError(f"metadata inputs: {error!s:.300}") from error
    if inputs.tensors != input_names(found):
        raise ExportError("metadata inputs: tensors other than an export has")
    writer = OnnxWriter()
    write_input(writer, found, steps)
    if is_plain(found.parts, found.index, found.shape):
        writer.nodes.clear()  # a cast is named after the graph's node
    _require(model, writer, "inputs")
    return found


def check_outputs(
    model: onnx.ModelProto,
    outputs: Sequence[OutputPart],
    shape: Shape,
    readout: str,
    inputs: Sequence[str],
) -> None:
    """Check that a file takes the model's outputs from the readout as the exporter does.

    Args:
        model: parsed; its operators are those of the exporter.
        outputs: as the metadata describes them.
        shape: of the readout, without the batch.
        readout: name of its tensor.
        inputs: names of the ONNX inputs that are the network's input.

    Raises:
        ExportError: an output that is missing, or computed in another way.
    """
    if not outputs:
        return
    positions = [_read_positions(model, number, row) for number, row in enumerate(outputs)]
    held = [each for each in positions if each is not None]
    index = np.concatenate(held) if len(held) == len(outputs) else None
    try:
        node = Output(
            name=readout, inputs=("x",), parts=tuple(row.part for row in outputs), index=index
        )
        node.output_shape(shape)
    except GraphError as error:
        raise ExportError(f"metadata outputs: {error!s:.300}") from error
    plain = is_plain(node.parts, node.index, shape)
    names = [row.part.name for row in outputs]
    wanted = [readout] if plain else list(output_tensors(names, inputs))
    starts = [_start(places) for places in _positions(node)]
    if [row.tensor for row in outputs] != wanted or [row.start for row in outputs] != starts:
        raise ExportError("metadata outputs: tensors or starts other than an export has")
    writer = OnnxWriter()
    write_outputs(writer, node, shape, outputs, readout)
    _require(model, writer, "outputs")


def _read_positions(model: onnx.ModelProto, number: int, row: OutputPart) -> Array | None:
    if row.start is not None:
        return np.arange(row.start, row.start + row.part.size)
    return _constant(model, _index_name(number))


def _constant(model: onnx.ModelProto, name: str) -> Array | None:
    """The constant of this name that is stored in the model; None where there is none."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.name == name and tensor.raw_data:
            value: Array = numpy_helper.to_array(tensor)
            return value
    return None


def _require(model: onnx.ModelProto, writer: OnnxWriter, what: str) -> None:
    """Raise ExportError unless the model holds everything that the exporter would write."""
    held = {
        kind: {_identity(kind, one): one.SerializeToString(deterministic=True) for one in found}
        for kind, found in _contents(
            model.graph.node, model.graph.initializer, model.graph.input, model.graph.output
        )
    }
    expected = _contents(writer.nodes, writer.initializers, writer.inputs, writer.outputs)
    for kind, wanted in expected:
        for one in wanted:
            name = _identity(kind, one)
            if held[kind].get(name) != one.SerializeToString(deterministic=True):
                raise ExportError(f"its {what} are not as the metadata says: {kind} {name[:80]!r}")


def _contents(
    nodes: Sequence[Any], constants: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]
) -> Iterator[tuple[str, Sequence[Any]]]:
    yield "operator", nodes
    yield "constant", constants
    yield "input", inputs
    yield "output", outputs


def _identity(kind: str, one: Any) -> str:
    name: str = (one.output[0] if one.output else "") if kind == "operator" else one.name
    return name
