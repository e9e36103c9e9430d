"""Give every sum, population and output its own Conv or Linear input, for the relay's weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icsnn_deploy.errors import ExportError, Rejection, rejection_table
from icsnn_deploy.exporters.nir.portable.find_unportable import MAX_WEIGHTS
from icsnn_deploy.exporters.nir.portable.portable import main_path_first
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Linear, Node, Output, Population
from icsnn_deploy.passes.affine import dense, pure_scale
from icsnn_deploy.passes.edit import GraphEditor

_MOST = 5_000
"""New connections; the work grows with the square of their number."""


def add_private_connections(graph: Graph) -> Graph:
    """Give every sum, population and output of a portable network a private connection.

    Of the connections into a sum only the first one keeps a bias, which is the sum of all.

    Raises:
        ExportError: a connection would be too large, or too many would be needed.
    """
    missing = missing_connections(graph)
    if len(missing) > _MOST:
        raise ExportError(
            f"this network has no relay form: it would need {len(missing):,} connections of their "
            f"own for the relay, at most {_MOST:,} are written. Sums without a population between "
            "them need many; export with v_init_encoding metadata"
        )
    large = [
        (sink, source) for sink, source in missing if graph.shape(source)[0] ** 2 > MAX_WEIGHTS
    ]
    if large:
        rejections = [_too_large(graph, sink, source) for sink, source in large]
        raise ExportError(rejection_table("this network has no relay form", rejections))
    editor = GraphEditor(graph)
    for sink, source in missing:
        shape = graph.shape(source)
        name = editor.fresh_name(f"{sink}.{source.rpartition('.')[2]}")
        scale = pure_scale(name, source, np.ones((1,) * len(shape), np.float32))
        # A sum that takes a source twice gets a connection for each.
        editor.insert_on_input(sink, editor.node(sink).inputs.index(source), dense(scale, shape))
    return _one_bias(main_path_first(editor.build()))


def missing_connections(graph: Graph) -> list[tuple[str, str]]:
    """The (sink, source) pairs of sums, populations and outputs without a private connection.

    A private connection is a Conv or Linear with no other consumer.
    """
    missing = []
    for sink in graph.nodes_of(Add, Population, Output):
        for source in sink.inputs:
            node = graph.node(source)
            private = not graph.is_shared(source)
            allowed = (Conv, Linear) if isinstance(sink, Add) else (Conv, Linear, Add)
            if not private or not isinstance(node, allowed):
                missing.append((sink.name, source))
    return missing


def _one_bias(graph: Graph) -> Graph:
    """Move the biases of all connections into a sum to the first one."""
    moved: list[Node] = []  # each is private to one sum
    for add in graph.nodes_of(Add):
        first, *others = (graph.node(name) for name in add.inputs)
        total = np.sum([_bias(node) for node in (first, *others)], axis=0)
        moved.append(_with_bias(first, total))
        moved += [_with_bias(node, 0 * _bias(node)) for node in others]
    return graph.replace(*moved)


def _bias(node: Node) -> Array:
    return node.arrays()["bias"].astype(np.float64)


def _with_bias(node: Node, bias: Array) -> Node:
    if not isinstance(node, (Conv, Linear)):
        raise ExportError(f"{node.name}: a {node.kind} node has no bias; Conv or Linear is needed")
    return replace(node, bias=bias.astype(np.float32))


def _too_large(graph: Graph, sink: str, source: str) -> Rejection:
    return Rejection(
        node=sink,
        got=f"{graph.shape(source)[0] ** 2:,} weights for a private connection from {source}",
        allowed=f"{MAX_WEIGHTS:,} weights per connection",
        remedy="Use fewer channels, or export with v_init_encoding metadata.",
    )
