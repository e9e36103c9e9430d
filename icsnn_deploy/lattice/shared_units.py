"""Find the connections that must share a unit: those that are summed."""

from __future__ import annotations

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Conv, Linear, Population
from icsnn_deploy.lattice.prepare import is_exact, is_zero_point


def sharing_groups(graph: Graph) -> dict[str, list[str]]:
    """Groups of affine nodes that must share a unit, each under the name of one of its nodes."""
    parent = {node.name: node.name for node in graph.nodes}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for add in graph.nodes_of(Add):
        for source in add.inputs:
            parent[find(source)] = find(add.name)
    groups: dict[str, list[str]] = {}
    for node in graph.nodes:
        affine = isinstance(node, (Conv, Linear, ChannelAffine)) and not is_exact(node)
        if affine and not is_zero_point(node):
            groups.setdefault(find(node.name), []).append(node.name)
    return groups


def thresholds_of(graph: Graph) -> dict[str, Array]:
    """v_threshold, [C] or [1], of the population that a node feeds, directly or through sums."""
    found: dict[str, Array] = {}
    for population in graph.nodes_of(Population):
        v_threshold = per_channel(population.v_threshold).reshape(-1)
        feeding = graph.ancestors(population.name, lambda node: isinstance(node, Add))
        found |= dict.fromkeys((node.name for node in feeding), v_threshold)
    return found


def per_channel(values: Array) -> Array:
    """Mean over the spatial axes, one value per channel."""
    if values.ndim == 1:
        return values
    mean: Array = values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
    return mean
