"""Rectifiers become integrate-and-fire populations; currents can be shifted afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.errors import ConversionError, GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Add, ChannelAffine, Conv, Linear, Node, Relu
from icsnn_deploy.passes.fold_scales import fold_scales


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """The parameters one rectifier takes as a population, ready to broadcast, activation units."""

    v_threshold: Array
    v_init: Array


def to_spiking(ann: Graph, populations: Mapping[str, Population], time_steps: int) -> Graph:
    """Put an IF population in the place of each Relu, its amplitude in the outgoing weights.

        conv -> relu -> conv                          before
        conv -> if -> conv' (weights x v_threshold)   after

    The population keeps the rectifier's name. An amplitude that no affine node can take (an
    identity shortcut into a sum) stays as a Scale: a diagonal connection with its own factor.

    Args:
        ann: the traced network.
        populations: parameters for every Relu, by name.
        time_steps: T.

    Raises:
        ConversionError: the network has no rectifier.
    """
    rectifiers = ann.nodes_of(Relu)
    if not rectifiers:
        raise ConversionError("the model has no ReLU: there is nothing to turn into spikes")
    graph = replace(ann, nodes=_with_amplitudes(ann, populations), time_steps=time_steps)
    return fold_scales(graph)


def _with_amplitudes(ann: Graph, populations: Mapping[str, Population]) -> tuple[Node, ...]:
    graph = ann
    for relu in ann.nodes_of(Relu):
        v_threshold = populations[relu.name].v_threshold
        amplitude = ChannelAffine(
            name=graph.fresh_name(f"{relu.name}.amplitude"),
            inputs=(relu.name,),
            scale=v_threshold,
            shift=np.zeros((1,) * len(ann.shape(relu.name)), np.float32),
        )
        graph = graph.insert_after(relu.name, amplitude)
    return tuple(
        IF(
            name=node.name,
            inputs=node.inputs,
            v_threshold=populations[node.name].v_threshold,
            v_init=populations[node.name].v_init,
        )
        if isinstance(node, Relu)
        else node
        for node in graph.nodes
    )


def set_threshold(graph: Graph, name: str, v_threshold: Array) -> Graph:
    """Give a population another v_threshold, and its outgoing weights the new amplitude.

    Args:
        graph: the IF network, with amplitudes in the outgoing weights.
        name: a population.
        v_threshold: ready to broadcast, > 0, unit of the current.
    """
    node = graph.node(name)
    if not isinstance(node, IF):
        raise GraphError(f"{name}: a population is needed, this is a {node.kind}")
    ratio = ChannelAffine(
        name=graph.fresh_name(f"{name}.amplitude"),
        inputs=(name,),
        scale=v_threshold.astype(np.float64) / node.v_threshold,
        shift=np.zeros((1,) * len(graph.shape(name)), np.float32),
    )
    changed = graph.replace(replace(node, v_threshold=v_threshold))
    return fold_scales(changed.insert_after(name, ratio))


def scale_current(graph: Graph, name: str, factor: Array) -> Graph:
    """Multiply the current of a population by a constant per channel.

        conv -> if              conv' -> if
        add  -> if      ->      add   -> if, each of its sources scaled

    Args:
        graph: a float IF network.
        name: a population.
        factor: one value per channel [C], > 0.
    """
    shape = graph.shape(name)
    scale = np.asarray(factor, np.float64).reshape(-1, *(1,) * (len(shape) - 1))
    if scale.size != shape[0]:
        raise GraphError(f"factor of {name}: {scale.size} values, {shape[0]} needed")
    target = graph.node(name)
    (source,) = (graph.node(n) for n in target.inputs)
    if isinstance(source, Add) and len(graph.consumers(source.name)) == 1:
        target = source  # a sum has no weights of its own: its sources have
    scales = [
        ChannelAffine(
            name=graph.fresh_name(f"{name}.gain{number}"),
            inputs=(feeding,),
            scale=scale,
            shift=np.zeros_like(scale),
        )
        for number, feeding in enumerate(target.inputs)
    ]
    moved = replace(target, inputs=tuple(node.name for node in scales))
    kept = [moved if node.name == target.name else node for node in graph.nodes]
    return fold_scales(graph.with_nodes([*kept, *scales]))


def shift_current(graph: Graph, name: str, shift: Array) -> Graph:
    """Add a constant to the current of a population, or of the output, at every step.

    It goes into the bias of an affine node that feeds only this one, directly or through a sum;
    where there is none, into a Scale in front of it.

    Args:
        graph: the network.
        name: a population or the output.
        shift: one value per channel [C], in the unit of the current; rounded for an integer
            network.
    """
    node = graph.node(name)
    values = np.asarray(shift, np.float64)
    channels = graph.shape(name)[0]
    if values.shape != (channels,):
        raise GraphError(f"shift of {name}: shape {values.shape}, ({channels},) needed")
    integer = graph.is_integer
    if integer:
        values = np.round(values).astype(np.int32)
    private = private_affine(graph, name)
    if private is not None:
        return graph.replace(replace(private, bias=private.bias + values))
    shape = (channels, *(1,) * (len(graph.shape(name)) - 1))
    scale = ChannelAffine(
        name=graph.fresh_name(f"{name}.shift"),
        inputs=node.inputs,
        scale=np.ones((1,) * len(shape), np.int8 if integer else np.float32),
        shift=values.reshape(shape),
    )
    moved = replace(node, inputs=(scale.name,))
    return graph.with_nodes(
        [*(moved if other.name == name else other for other in graph.nodes), scale]
    )


def private_affine(graph: Graph, name: str) -> Conv | Linear | None:
    """The affine node whose result goes to this node alone, directly or through sums; if any."""
    waiting = [graph.node(source) for source in graph.node(name).inputs]
    while waiting:
        source = waiting.pop(0)
        if len(graph.consumers(source.name)) > 1:
            continue
        if isinstance(source, (Conv, Linear)):
            return source
        if isinstance(source, Add):
            waiting += [graph.node(inner) for inner in source.inputs]
    return None
