"""Add a constant to the current of a population."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Conv, Linear, Node
from icsnn_deploy.graph.order import walk_back
from icsnn_deploy.passes.edit import GraphEditor


def shift_current(graph: Graph, name: str, shift: Array) -> Graph:
    """Add a constant to the current of a population, or of the output, at every step.

        conv -> if                  before
        conv (bias + shift) -> if   after

        pool -> if                  before
        pool -> scale (1 x + shift) -> if     after

    It is added to the bias of an affine node that leads only to this node, directly or through
    sums; if there is none, a ChannelAffine is inserted before it.

    Args:
        graph: the network.
        name: a population or the output.
        shift: one value per channel [C], in the unit of the current; rounded for an integer
            network.

    Raises:
        GraphError: shift has another number of values.
    """
    values = np.asarray(shift, np.float64)
    channels, *space = graph.shape(name)
    if values.shape != (channels,):
        raise GraphError(f"shift of {name}: shape {values.shape}, ({channels},) needed")
    integer = graph.is_integer
    if integer:
        values = np.round(values).astype(np.int32)
    private = private_affine(graph, name)
    if private is not None:
        return graph.replace(replace(private, bias=private.bias + values))
    editor = GraphEditor(graph)
    rank = 1 + len(space)
    scale = ChannelAffine(
        name=editor.fresh_name(f"{name}.shift"),
        inputs=graph.node(name).inputs,
        scale=np.ones((1,) * rank, np.int8 if integer else np.float32),
        shift=values.reshape(-1, *(1,) * len(space)),
    )
    editor.insert_before(name, [scale])
    return editor.build()


def private_affine(graph: Graph, name: str) -> Conv | Linear | None:
    """Return the affine node that leads only to this node, directly or through sums.

    Of several, the nearest one, and of a sum's sources the first; None if there is none.
    """

    def is_private(node: Node) -> bool:
        return not graph.is_shared(node.name)

    nodes = {node.name: node for node in graph.nodes}
    start = graph.node(name).inputs
    for source in walk_back(nodes, start, lambda n: isinstance(n, Add) and is_private(n)):
        if isinstance(source, (Conv, Linear)) and is_private(source):
            return source
    return None
