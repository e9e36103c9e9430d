"""Change the thresholds of populations without changing a spike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Add, ChannelAffine, Conv, Linear, Node
from icsnn_deploy.passes.affine import per_row, pure_scale
from icsnn_deploy.passes.edit import GraphEditor


def scale_thresholds(graph: Graph, v_threshold: Mapping[str, Array], *, absorb: bool) -> Graph:
    """Scale the current, v_init and v_reset of populations to the given v_threshold.

        conv -> if (v_threshold 4)                        before
        conv -> scale (1/4) -> if (v_threshold 1)         after
        conv' (weights and bias / 4) -> if (...)          after, with absorb

    A spike is 0 or 1 whatever the threshold, so nothing changes after the population. If a sum has
    no other consumer than the population, its sources are scaled.

    Args:
        graph: an IF network.
        v_threshold: new threshold of each population, > 0, broadcastable to it; with `absorb` the
            ratio of the new to the old one must be one value per channel.
        absorb: multiply the factor into affine nodes that have no other consumer. Their integers
            stay integers, so the products must be integers. Without it each factor becomes a
            ChannelAffine of float32, which fold_scales can fold.

    Raises:
        GraphError: a name is not that of a population.
    """
    editor = GraphEditor(graph)
    for name, new_threshold in v_threshold.items():
        population = editor.node(name)
        if not isinstance(population, IF):
            raise GraphError(f"{name}: a population is needed, this is a {population.kind}")
        factor = new_threshold / population.v_threshold.astype(np.float64)
        reset = population.v_reset
        editor.replace(
            replace(
                population,
                v_threshold=new_threshold,
                v_init=population.v_init * factor,
                v_reset=None if reset is None else reset * factor,
            )
        )
        _scale_sources(editor, name, factor, absorb=absorb)
    return editor.build()


def _scale_sources(editor: GraphEditor, name: str, factor: Array, *, absorb: bool) -> None:
    """Scale all inputs of a node."""
    for source in dict.fromkeys(editor.node(name).inputs):
        node = editor.node(source)
        private = not editor.is_shared(source)
        if private and isinstance(node, Add):
            _scale_sources(editor, source, factor, absorb=absorb)
        elif absorb and private and isinstance(node, (Conv, Linear, ChannelAffine)):
            editor.replace(_scaled(node, factor))
        else:
            scale = pure_scale(editor.fresh_name(f"{name}.unit"), source, factor)
            editor.insert_on_edge(source, name, scale)


def _scaled(node: Conv | Linear | ChannelAffine, factor: Array) -> Node:
    """Return an affine node with its result scaled per channel; float or integer as before."""
    if isinstance(node, ChannelAffine):
        return replace(node, scale=_typed(node.scale, factor), shift=_typed(node.shift, factor))
    weight = _typed(node.weight, per_row(factor, node.weight))
    return replace(node, weight=weight, bias=_typed(node.bias, factor.reshape(-1)))


def _typed(value: Array, factor: Array) -> Array:
    """Return value * factor; integers stay integers."""
    product = value * factor
    if value.dtype.kind != "i":
        return product.astype(np.float32)
    return product.astype(np.int64 if np.abs(product).max() >= 2**31 else np.int32)
