"""The model's own inputs and outputs: packed into a graph's input, taken from its logits.

A graph has one input and one output. The parts of its Input and Output nodes say how the model's
tensors, one or several of any shape, are arranged in them; the host does both steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Part
from icsnn_deploy.graph.tasks import Task, shape_tasks


def input_parts(graph: Graph) -> tuple[Part, ...]:
    """The model's inputs; one of the graph's own name and shape where nothing is recorded."""
    node = graph.input
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


def pack_inputs(graph: Graph, named: Mapping[str, Array]) -> Array:
    """Arrange the model's inputs as the input of the graph, [B, *graph.input.shape].

    Args:
        graph: the network.
        named: for each part its values, [B, *part.shape].

    Raises:
        DataError: a part that is missing, unknown, or of another shape or batch size.
    """
    parts = input_parts(graph)
    wanted = {part.name: part.shape for part in parts}
    if set(named) != set(wanted):
        raise DataError(f"inputs {sorted(named)}: this network takes {sorted(wanted)}")
    arrays = {name: np.asarray(value) for name, value in named.items()}
    for name, array in arrays.items():
        if array.shape[1:] != wanted[name] or len(array) != len(arrays[parts[0].name]):
            raise DataError(
                f"input {name!r} of shape {array.shape}: [B, {str(list(wanted[name]))[1:-1]}] is "
                "needed, with one B for all inputs"
            )
    if graph.input.index is None:
        return arrays[parts[0].name]
    batch = len(arrays[parts[0].name])
    dtype = np.result_type(*arrays.values())
    flat = [arrays[part.name].reshape(batch, -1) for part in parts]
    values = np.concatenate([*flat, np.zeros((batch, 1), dtype)], axis=1)  # [B, values + 1]
    packed: Array = values[:, graph.input.index]
    return packed


def named_outputs(graph: Graph, logits: Array) -> dict[str, Array]:
    """The model's outputs by name, each [B, *part.shape], from logits [B, *graph output]."""
    node, parts = graph.output, output_parts(graph)
    if node.index is None:
        return {parts[0].name: logits.reshape(len(logits), *parts[0].shape)}
    values = logits.reshape(len(logits), -1)[:, node.index]
    result, begin = {}, 0
    for part in parts:
        end = begin + math.prod(part.shape)
        result[part.name] = values[:, begin:end].reshape(len(logits), *part.shape)
        begin = end
    return result
