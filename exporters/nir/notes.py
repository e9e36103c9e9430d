"""Notes on NIR nodes, so that reading a file gives the same graph, with the same hash.

NIR stores float32 arrays of full shape, and sums as several edges. A note says how the graph held
them (integer types, smaller shapes, names and nesting of sums). It is written only where reading
would otherwise give something else, and applied only if it changes no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Node, Population, Shape

TYPES, SHAPES, SUM, TERMS = "types", "shapes", "sum", "terms"
"""Keys of a note: type and shape of each array; name and terms of a sum."""

TIMES = "times"
"""Value of "was" for a nir.Scale that stands for a source that is added several times."""

MOST_TERMS = 64
"""A sum of more terms is read back as one flat sum."""


def array_note(node: Node, shape: Shape) -> dict[str, Any]:
    """The note on arrays whose type or shape differs from what reading gives.

    Args:
        node: a node of the graph.
        shape: of its result.
    """
    arrays = node.parameters()
    types = {name: a.dtype.name for name, a in arrays.items() if a.dtype != np.float32}
    shapes: dict[str, Shape] = {}
    if isinstance(node, (Population, ChannelAffine)):
        shapes = {
            name: array.shape
            for name, array in arrays.items()
            if reduced(np.broadcast_to(array, shape)).shape != array.shape
        }
    return {**({TYPES: types} if types else {}), **({SHAPES: shapes} if shapes else {})}


def reduced(array: Array) -> Array:
    """An array of full shape, reduced to one value per channel where each channel is constant."""
    if array.ndim < 2:
        return array
    channel = array[(slice(None), *(slice(1),) * (array.ndim - 1))]  # [C, 1, ...]
    return channel if (array == channel).all() else array


def sum_note(graph: Graph, add: str, parts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The note on the sum that enters a node: its name, and its terms where edges do not give them.

    Args:
        graph: the network.
        add: name of the sum.
        parts: for each graph node, the NIR nodes whose sum it is, and how often each is added.
    """
    node = graph.node(add)
    nested = any(isinstance(graph.node(source), Add) for source in node.inputs)
    if not nested and len(set(node.inputs)) == len(node.inputs):
        return {SUM: add}
    terms = _terms(graph, node, parts, MOST_TERMS)
    return {SUM: add} if terms is None else {SUM: add, TERMS: terms}


def _terms(
    graph: Graph, add: Node, parts: Mapping[str, Mapping[str, int]], most: int
) -> list[Any] | None:
    """Names of NIR nodes; nested sums are objects with the same two keys."""
    found: list[Any] = []
    for source in add.inputs:
        if isinstance(graph.node(source), Add):
            inner = _terms(graph, graph.node(source), parts, most - count(found))
            if inner is None:
                return None
            found.append({SUM: source, TERMS: inner})
        elif len(parts[source]) == 1:
            found += parts[source]
        else:
            return None  # a node written as several: their sum has no name in the file
        if count(found) > most:
            return None
    return found


def count(terms: list[Any]) -> int:
    """Number of names in a list of terms."""
    return sum(count(term[TERMS]) if isinstance(term, dict) else 1 for term in terms)
