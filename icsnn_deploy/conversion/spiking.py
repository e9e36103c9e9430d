"""Replace rectifiers by integrate-and-fire populations, and change their thresholds.

Both follow one convention: a spike stands for v_threshold, and the outgoing weights include that
amplitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Node, Relu
from icsnn_deploy.passes.affine import pure_scale
from icsnn_deploy.passes.edit import GraphEditor, fresh_name, insert_after
from icsnn_deploy.passes.fold_scales import fold_scales


@dataclass(frozen=True, kw_only=True, eq=False)
class PopulationParameters:
    """The parameters of a rectifier's population: broadcastable to it, in activation units."""

    v_threshold: Array
    v_init: Array


def to_spiking(
    ann: Graph, populations: Mapping[str, PopulationParameters], time_steps: int
) -> Graph:
    """Replace each Relu by an IF population, with its amplitude in the outgoing weights.

        conv -> relu -> conv                          before
        conv -> if -> conv' (weights x v_threshold)   after

    The population keeps the rectifier's name. An amplitude that no affine node can absorb (at an
    identity shortcut into a sum) stays as a ChannelAffine: a diagonal connection.

    Args:
        ann: the traced network.
        populations: parameters for every Relu, by name.
        time_steps: T.

    Raises:
        ConversionError: the network has no rectifier.
    """
    rectifiers = ann.nodes_of(Relu)
    if not rectifiers:
        raise ConversionError("the model has no ReLU; at least one is needed to convert it")
    graph = replace(ann, nodes=_with_amplitudes(ann, populations), time_steps=time_steps)
    return fold_scales(graph)


def _with_amplitudes(
    ann: Graph, populations: Mapping[str, PopulationParameters]
) -> tuple[Node, ...]:
    editor = GraphEditor(ann)
    for relu in ann.nodes_of(Relu):
        name = editor.fresh_name(f"{relu.name}.amplitude")
        amplitude = pure_scale(name, relu.name, populations[relu.name].v_threshold)
        editor.insert_after(relu.name, amplitude)
    return tuple(
        IF(
            name=node.name,
            inputs=node.inputs,
            v_threshold=populations[node.name].v_threshold,
            v_init=populations[node.name].v_init,
        )
        if isinstance(node, Relu)
        else node
        for node in editor.build().nodes
    )


def set_threshold(graph: Graph, name: str, v_threshold: Array) -> Graph:
    """Change the v_threshold of a population, and the amplitude in its outgoing weights.

    Args:
        graph: the IF network, with amplitudes in the outgoing weights.
        name: a population.
        v_threshold: broadcastable to the population, > 0, in the unit of the current.
    """
    node = graph.population(name)
    ratio = v_threshold.astype(np.float64) / node.v_threshold
    changed = graph.replace(replace(node, v_threshold=v_threshold))
    amplitude = pure_scale(fresh_name(graph, f"{name}.amplitude"), name, ratio)
    return fold_scales(insert_after(changed, name, amplitude))
