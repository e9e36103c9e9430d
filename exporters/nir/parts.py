"""The model's inputs and outputs in a NIR file: named in the metadata of the graph.

The file has one Input and one Output node, with the values as the network takes and gives them.
Names, shapes and host operations stand in this package's JSON string, and the index of each node,
where it has one, beside it as an array of integers. Other readers run the network as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Part
from icsnn_deploy.graph.parts import checked_parts

INPUTS, OUTPUTS = "inputs", "outputs"
"""Keys of the parts in the JSON string: a list of [name, shape, host_op] each."""

INPUT_INDEX, OUTPUT_INDEX = "icsnn_input_index", "icsnn_output_index"
"""Keys of the indices in the metadata of the graph: int64, see graph.nodes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NirParts:
    """The model's inputs and outputs as a file states them; its arrays are not checked yet."""

    inputs: tuple[Part, ...] = ()
    outputs: tuple[Part, ...] = ()
    input_index: Any = None
    output_index: Any = None


def part_entries(graph: Graph) -> dict[str, Any]:
    """The entries of the JSON string."""
    parts = {INPUTS: graph.input.parts, OUTPUTS: graph.output.parts}
    return {key: [list(part) for part in found] for key, found in parts.items() if found}


def index_arrays(graph: Graph) -> dict[str, Array]:
    """The arrays beside the JSON string."""
    indices = {INPUT_INDEX: graph.input.index, OUTPUT_INDEX: graph.output.index}
    return {key: np.array(index) for key, index in indices.items() if index is not None}


def read_parts(stated: Mapping[str, Any], metadata: Mapping[str, Any]) -> NirParts:
    """The parts of a file; raises GraphError.

    Args:
        stated: the JSON object.
        metadata: of the NIR graph.
    """
    return NirParts(
        inputs=checked_parts("inputs", stated.get(INPUTS, [])),
        outputs=checked_parts("outputs", stated.get(OUTPUTS, [])),
        input_index=_index(metadata, INPUT_INDEX),
        output_index=_index(metadata, OUTPUT_INDEX),
    )


def without_parts(graph: Graph) -> Graph:
    """The network that a file's nodes stand for: its input and output as they are."""
    return _replaced(replace(graph, output_unit=None), NirParts())


def with_parts(graph: Graph, found: NirParts) -> Graph:
    """The network with the parts of a file; raises GraphError where they do not fit it."""
    return _replaced(graph, found)


def _replaced(graph: Graph, found: NirParts) -> Graph:
    return graph.replace(
        replace(graph.input, parts=found.inputs, index=found.input_index),
        replace(graph.output, parts=found.outputs, index=found.output_index),
    )


def _index(metadata: Mapping[str, Any], key: str) -> Array | None:
    value = metadata.get(key)
    if value is not None and not isinstance(value, np.ndarray):
        raise GraphError(f"{key}: {value!r:.60}, an array of integers is needed")
    return value
