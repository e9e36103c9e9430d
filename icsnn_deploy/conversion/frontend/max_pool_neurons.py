"""A population of its own for what a fully connected layer takes of a max pooling.

    conv --+--> max (a sum of connections) --> linear            before
    conv --+--> max --> relu (a copy) --> linear                 after

The maximum of what is never negative is a sum of connections. A fully connected layer behind it
would need a copy of its matrix for each of them, or take sums of weights instead of spikes, which
leaves the integer lattice few bits, the readout's sums included. One neuron a value is cheaper, and
the rectifier of what is never negative changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from icsnn_deploy.conversion.frontend.max_pool_cost import MAX_POOLS
from icsnn_deploy.conversion.frontend.nonnegative import is_nonnegative
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, Flatten, Linear, Node, Relu
from icsnn_deploy.passes.edit import fresh_name, insert_after


def relay_max_pools(graph: Graph) -> Graph:
    """The network with a rectifier behind each max pooling, never negative, that a Linear takes.

    Each is recorded as part of its max pooling.

    Args:
        graph: a traced ANN; its provenance says which sums are max poolings.
    """
    pools = dict(graph.provenance.get(MAX_POOLS, {}))
    known = {node.name: node for node in graph.nodes}
    for name in dict.fromkeys(_taken(graph, linear) for linear in graph.nodes_of(Linear)):
        if not isinstance(known[name], Add) or not is_nonnegative(known, name):
            continue
        sums = [name, *(node.name for node in graph.ancestors(name, _is_sum))]
        pool = next((one for one in sums if one in pools), None)
        if pool is not None:
            relay = Relu(name=fresh_name(graph, f"{name}.relay"), inputs=(name,))
            graph = insert_after(graph, name, relay)
            pools[pool] = [*pools[pool], relay.name]
    return replace(graph, provenance={**graph.provenance, MAX_POOLS: pools}) if pools else graph


def _is_sum(node: Node) -> bool:
    return isinstance(node, Add)


def _taken(graph: Graph, linear: Linear) -> str:
    """What a fully connected layer flattens."""
    source = graph.node(linear.inputs[0])
    while isinstance(source, Flatten):
        source = graph.node(source.inputs[0])
    return source.name
