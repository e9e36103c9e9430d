"""Chains of connections without a population between them."""

from __future__ import annotations

from icsnn_deploy.graph.copied_range import only_copies
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Conv, Linear, Population


def connections_in_a_row(graph: Graph, layer: str) -> tuple[str, ...]:
    """The longest chain of connections into a layer without a population between them.

    Copies and sums over windows, whose weights are small, do not count.

    Args:
        graph: an integer network.
        layer: a population, or the output.

    Returns:
        names in the order of the signal; empty where no connection follows another.
    """
    chains: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        before = max((chains[name] for name in node.inputs), key=len, default=())
        if node.name == layer:
            return before if len(before) > 1 else ()
        if isinstance(node, Population):
            before = ()
        elif isinstance(node, (Conv, Linear)) and not only_copies(node):
            before = (*before, node.name)
        chains[node.name] = before
    return ()
