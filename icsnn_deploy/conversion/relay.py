"""A population of its own for what a fully connected layer takes of a max pooling.

    conv --+--> max (a sum of connections) --> linear            before
    conv --+--> max --> relu (a copy) --> linear                 after

The maximum of what is never negative is a sum of connections. A fully connected layer behind it
would need a copy of its matrix for each of them; one neuron a value is cheaper, and the rectifier
of what is never negative changes nothing.
"""

from __future__ import annotations

from icsnn_deploy.conversion.nonnegative import is_nonnegative
from icsnn_deploy.graph import Graph
from icsnn_deploy.nodes import Add, Flatten, Linear, Relu


def relay_sums(graph: Graph) -> Graph:
    """The network with a rectifier behind each sum, never negative, that a Linear flattens."""
    for linear in graph.nodes_of(Linear):
        source = graph.node(linear.inputs[0])
        while isinstance(source, Flatten):
            source = graph.node(source.inputs[0])
        known = {node.name: node for node in graph.nodes}
        if isinstance(source, Add) and is_nonnegative(known, source.name):
            name = graph.fresh_name(f"{source.name}.relay")
            graph = graph.insert_after(source.name, Relu(name=name, inputs=(source.name,)))
    return graph
