"""The model's own inputs and outputs: packed into a graph's input, taken from its logits.

A graph has one input and one output. The parts of its Input and Output nodes say how the model's
tensors, one or several of any shape, are arranged in them; the host does both steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrays import to_numpy
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import part_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input, Part, Shape
from icsnn_deploy.graph.tasks import Task, shape_tasks


def input_parts(graph: Graph) -> tuple[Part, ...]:
    """The model's inputs; one of the graph's own name and shape where nothing is recorded."""
    return parts_of_input(graph.input)


def parts_of_input(node: Input) -> tuple[Part, ...]:
    """The model's inputs, of an input node; see input_parts."""
    return node.parts or (Part(node.name, node.shape),)


def output_parts(graph: Graph) -> tuple[Part, ...]:
    """The model's outputs; one of the graph's own name and shape where nothing is recorded."""
    node = graph.output
    return node.parts or (Part(node.name, graph.shape(node.name)),)


def output_tasks(graph: Graph) -> dict[str, Task]:
    """The task of each of the model's outputs: as recorded, otherwise as the shapes tell."""
    return {
        name: graph.tasks.get(name, task) for name, task in shape_tasks(output_parts(graph)).items()
    }


def is_classifier(graph: Graph) -> bool:
    """Whether the network has one output, and it is one class per sample."""
    parts, tasks = output_parts(graph), list(output_tasks(graph).values())
    return tasks == ["classification"] or (tasks == ["binary"] and math.prod(parts[0].shape) == 1)


def is_plain(parts: tuple[Part, ...], index: Array | None, shape: Shape) -> bool:
    """Whether an Input or Output of this shape is the one tensor that the model takes or gives.

    Args:
        parts: of the node; empty where nothing is recorded.
        index: of the node.
        shape: of the node's values.
    """
    return index is None and (not parts or parts[0].shape == shape)


def pack_inputs(graph: Graph, named: Mapping[str, Array]) -> Array:
    """Arrange the model's inputs as the input of the graph, [B, *graph.input.shape].

    Args:
        graph: the network.
        named: for each part its values, [B, *part.shape]; spikes [T, B, *part.shape] for rate and
            event input.

    Returns:
        [B, *graph.input.shape], or [T, B, *graph.input.shape]; the values keep their units.

    Raises:
        DataError: a part that is missing, unknown, or of another shape or batch size.
    """
    return pack_into(graph.input, named)


def pack_into(node: Input, named: Mapping[str, Array]) -> Array:
    """Arrange the model's inputs as an input node takes them; see pack_inputs."""
    parts = parts_of_input(node)
    if set(named) != {part.name for part in parts}:
        wanted = ", ".join(part.name for part in parts)
        raise DataError(f"inputs {', '.join(sorted(named)) or 'none'}: this network takes {wanted}")
    arrays = [to_numpy(named[part.name]) for part in parts]
    axes = node.batch_axis + 1
    lead = arrays[0].shape[:axes]
    for part, array in zip(parts, arrays, strict=True):
        if array.dtype.kind not in "fiub":
            raise DataError(f"input {part.name!r} of type {array.dtype}: real numbers are needed")
        if array.ndim < axes or array.shape != (*lead, *part.shape):
            wanted = ", ".join([*("TB" if node.is_timed else "B"), *map(str, part.shape)])
            raise DataError(
                f"input {part.name!r} of shape {array.shape}: [{wanted}] is needed, with one B for "
                "all inputs"
            )
    checked = {part.name: array for part, array in zip(parts, arrays, strict=True)}
    return place_parts(node, checked)


def place_parts(node: Input, named: Mapping[str, Array]) -> Array:
    """pack_inputs without checks, with any axes before those of a part."""
    parts = parts_of_input(node)
    arrays = [named[part.name] for part in parts]
    lead = arrays[0].shape[: arrays[0].ndim - len(parts[0].shape)]
    if node.index is None:
        return arrays[0].reshape(*lead, *node.shape)
    flat = [array.reshape(*lead, part.size) for part, array in zip(parts, arrays, strict=True)]
    zero = np.zeros((*lead, 1), np.result_type(*flat))
    packed: Array = np.concatenate([*flat, zero], axis=-1)[..., node.index]  # -1 takes the zero
    return packed


def unpack_input(node: Input, x: Array) -> dict[str, Array]:
    """The model's inputs by name, from the input of the graph: the inverse of pack_inputs.

    Values that the network does not read are 0.

    Args:
        node: of the graph.
        x: [B, *node.shape]. Further axes may come before B, as the steps of spikes.
    """
    parts, lead = parts_of_input(node), x.shape[: x.ndim - len(node.shape)]
    if node.index is None:
        return {parts[0].name: x.reshape(*lead, *parts[0].shape)}
    values = np.zeros((*lead, sum(part.size for part in parts) + 1), x.dtype)
    values[..., node.index.reshape(-1)] = x.reshape(
        *lead, math.prod(node.shape)
    )  # -1 is cut off below
    return _split(parts, values)


def named_outputs(graph: Graph, logits: Array) -> dict[str, Array]:
    """The model's outputs by name, each [B, *part.shape], in the units of the model.

    The operation that a part leaves to the host (part.host_op) is not applied.

    Args:
        graph: the network. Its output_unit is applied; values of an integer network without one
            keep the units of the network.
        logits: as the graph computes them, [B, *graph output]. Further axes may come before B.
    """
    named, units = split_outputs(graph, logits), part_units(graph)
    if units is None or set(units) == {1.0}:
        return named
    return {name: value * unit for (name, value), unit in zip(named.items(), units, strict=True)}


def split_outputs(graph: Graph, values: Array) -> dict[str, Array]:
    """Values in the layout of the logits by the names of the model's outputs, each unchanged.

    Args:
        graph: the network.
        values: [B, *graph output]. Further axes may come before B.

    Returns:
        [B, *part.shape] for each part.
    """
    node = graph.output
    shape = graph.shape(node.name)
    lead = values.shape[: values.ndim - len(shape)]
    flat = values.reshape(*lead, math.prod(shape))
    return _split(output_parts(graph), flat if node.index is None else flat[..., node.index])


def _split(parts: tuple[Part, ...], values: Array) -> dict[str, Array]:
    """Values of all parts, one after the other on the last axis, by name in the parts' shapes."""
    result, begin = {}, 0
    for part in parts:
        taken = values[..., begin : begin + part.size]
        result[part.name] = taken.reshape(*values.shape[:-1], *part.shape)
        begin += part.size
    return result
