"""Multiply the current of a population."""

from __future__ import annotations

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, ChannelAffine
from icsnn_deploy.passes.edit import GraphEditor
from icsnn_deploy.passes.fold_scales import fold_scales


def scale_current(graph: Graph, name: str, factor: Array) -> Graph:
    """Multiply the current of a population by a constant per channel.

        conv -> if              conv' -> if
        add  -> if      ->      add   -> if, each of its sources scaled

    Unlike scale_thresholds it does not change v_threshold, so the spikes change.

    Args:
        graph: a float IF network.
        name: a population.
        factor: one value per channel [C], > 0.

    Raises:
        GraphError: factor has another number of values.
    """
    shape = graph.shape(name)
    scale = np.asarray(factor, np.float64).reshape(-1, *(1,) * (len(shape) - 1))
    if scale.size != shape[0]:
        raise GraphError(f"factor of {name}: {scale.size} values, {shape[0]} needed")
    target = graph.node(name)
    (source,) = (graph.node(n) for n in target.inputs)
    if isinstance(source, Add) and not graph.is_shared(source.name):
        target = source  # a sum has no weights, but its sources have
    editor = GraphEditor(graph)
    scales = [
        ChannelAffine(
            name=editor.fresh_name(f"{name}.gain{number}"),
            inputs=(feeding,),
            scale=scale,
            shift=np.zeros_like(scale),
        )
        for number, feeding in enumerate(target.inputs)
    ]
    editor.insert_before(target.name, scales)
    return fold_scales(editor.build())
