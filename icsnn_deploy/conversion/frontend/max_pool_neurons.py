"""Insert a population between a max pooling and a fully connected layer.

    conv --+--> max (a sum of connections) --> linear            before
    conv --+--> max --> relu (a copy) --> linear                 after

The maximum of nonnegative values is a sum of connections. A fully connected layer after it would
need one copy of its matrix for each connection, or sums of weights instead of spikes as its input,
which leaves few bits on the integer lattice. One neuron per value is cheaper, and rectifying
nonnegative values changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from icsnn_deploy.conversion.frontend.nonnegative import is_nonnegative
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, Flatten, Linear, Node, Relu
from icsnn_deploy.passes.edit import fresh_name, insert_after


def relay_max_pools(graph: Graph) -> Graph:
    """The network with a rectifier after each nonnegative max pooling that feeds a Linear.

    Each rectifier is recorded in the provenance as part of its max pooling.

    Args:
        graph: a traced ANN; its max_pools say which sums are max poolings.
    """
    pools = dict(graph.max_pools)
    known = {node.name: node for node in graph.nodes}
    for name in dict.fromkeys(
        _unflattened_input(graph, linear) for linear in graph.nodes_of(Linear)
    ):
        if not isinstance(known[name], Add) or not is_nonnegative(known, name):
            continue
        sums = [name, *(node.name for node in graph.ancestors(name, _is_sum))]
        pool = next((one for one in sums if one in pools), None)
        if pool is not None:
            relay = Relu(name=fresh_name(graph, f"{name}.relay"), inputs=(name,))
            graph = insert_after(graph, name, relay)
            pools[pool] = (*pools[pool], relay.name)
    return replace(graph, max_pools=pools)


def _is_sum(node: Node) -> bool:
    return isinstance(node, Add)


def _unflattened_input(graph: Graph, linear: Linear) -> str:
    """The input of a fully connected layer before it is flattened."""
    source = graph.node(linear.inputs[0])
    while isinstance(source, Flatten):
        source = graph.node(source.inputs[0])
    return source.name
