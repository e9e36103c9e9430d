"""A connection of its own into everything that takes one: what a relay can be led through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icsnn_deploy.errors import ExportError, Rejection, rejection_table
from icsnn_deploy.exporters.nir.portable.find_unportable import MOST_WEIGHTS
from icsnn_deploy.exporters.nir.portable.portable import main_path_first
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Linear, Node, Output, Population
from icsnn_deploy.passes.affine import dense, pure_scale
from icsnn_deploy.passes.edit import GraphEditor


def add_private_connections(graph: Graph) -> Graph:
    """The portable network, with a connection of its own into every sum, population and output.

    Of the connections into a sum only the first has a bias.

    Raises:
        ExportError: a connection that would be too large.
    """
    wanted = missing_connections(graph)
    large = [
        (sink, source) for sink, source in wanted if graph.shape(source)[0] ** 2 > MOST_WEIGHTS
    ]
    if large:
        rejections = [_too_large(graph, sink, source) for sink, source in large]
        raise ExportError(rejection_table("this network has no relay", rejections))
    editor = GraphEditor(graph)
    for sink, source in wanted:
        shape = graph.shape(source)
        name = editor.fresh_name(f"{sink}.{source.rpartition('.')[2]}")
        scale = pure_scale(name, source, np.ones((1,) * len(shape), np.float32))
        editor.insert_on_edge(source, sink, dense(scale, shape))
    return _one_bias(main_path_first(editor.build()))


def missing_connections(graph: Graph) -> list[tuple[str, str]]:
    """Sums, populations and outputs, with a source of each that is no connection of its own.

    That is a Conv or Linear that leads nowhere else.
    """
    found = []
    for sink in graph.nodes_of(Add, Population, Output):
        for source in sink.inputs:
            node = graph.node(source)
            private = len(graph.consumers(source)) == 1
            allowed = (Conv, Linear) if isinstance(sink, Add) else (Conv, Linear, Add)
            if not private or not isinstance(node, allowed):
                found.append((sink.name, source))
    return found


def _one_bias(graph: Graph) -> Graph:
    """The biases of the connections into a sum, all of them in the first."""
    for add in graph.nodes_of(Add):
        first, *others = (graph.node(name) for name in add.inputs)
        total = np.sum([_bias(node) for node in (first, *others)], axis=0)
        moved = [_with_bias(node, 0 * _bias(node)) for node in others]
        graph = graph.replace(_with_bias(first, total), *moved)
    return graph


def _bias(node: Node) -> Array:
    return node.arrays()["bias"].astype(np.float64)


def _with_bias(node: Node, bias: Array) -> Node:
    if not isinstance(node, (Conv, Linear)):
        raise ExportError(f"{node.name}: a {node.kind} node has no bias; Conv or Linear needed")
    return replace(node, bias=bias.astype(np.float32))


def _too_large(graph: Graph, sink: str, source: str) -> Rejection:
    return Rejection(
        node=sink,
        got=f"{graph.shape(source)[0] ** 2:,} weights for a connection of its own from {source}",
        allowed=f"{MOST_WEIGHTS:,} weights a connection",
        remedy="Use fewer channels, or export with v_init_encoding metadata.",
    )
