"""The model's own inputs and outputs as tensors of an ONNX file, as the exporter writes them.

    part [N, ...] -> Reshape -+-> Concat -> Gather -> Reshape -> network's input [N, *shape]
    part [N, ...] -> Reshape -+

    readout -> Reshape -> Slice or Gather -> Reshape -> Mul -> part [N, ...]

Mul applies the unit of the output, so that a part holds the model's own values. Each operator is
left out where it would change nothing. A network whose input or output is the one tensor of the
model has "x" or "logits" alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input, Output, Part, Shape

_FLAT = constant_name("readout_flat")
INPUT_INDEX, INPUT_VALUES = constant_name("input_index"), constant_name("input_values")


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
            start=first_of(positions),
            unit=None if unit in (None, 1.0) else unit,
        )
        for part, tensor, positions, unit in zip(
            node.parts, tensors, positions_of(node), units, strict=True
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
        places = writer.constant(INPUT_INDEX, index)
        x = writer.op("Gather", [x, places], INPUT_VALUES, axis)
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
    for number, (entry, places) in enumerate(zip(entries, positions_of(node), strict=True)):
        steps: list[tuple[str, str, dict[str, int]]] = []
        if places is not None and entry.start is None:
            steps.append(("Gather", writer.constant(index_name(number), places), {"axis": 1}))
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
            result = entry.tensor if last else step_name(number, operator)
            operands = [operand]
            if operator == "Slice":
                begin = entry.start or 0
                ends = (begin, begin + entry.part.size, 1)  # of axis 1
                operands = [writer.integers([end]) for end in ends]
            x = writer.op(operator, [x, *operands], result, attributes)
        writer.add_output(entry.tensor, batched(entry.part.shape))


def index_name(number: int) -> str:
    return constant_name(f"output_{number}_index")


def step_name(number: int, operator: str) -> str:
    return constant_name(f"output_{number}_{operator.lower()}")


def positions_of(node: Output) -> list[Array | None]:
    """For each part its positions in the readout; None without an index."""
    if node.index is None:
        return [None] * len(node.parts)
    ends = np.cumsum([part.size for part in node.parts])[:-1]
    return list(np.split(node.index, ends))


def first_of(positions: Array | None) -> int | None:
    """The first of positions that follow each other; None for others."""
    if positions is None or (np.diff(positions) != 1).any():
        return None
    return int(positions[0])
