"""A network as layers of neurons that receive events; channels come last."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.speck.connections import Connection, bias_into, connections_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Population
from icsnn_deploy.targets.paths import image_shape

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outgoing:
    """A connection of a layer.

    Args:
        target: number of the layer that it leads to.
        pool: side of the windows whose spikes are summed.
        weight: int32 [C_in, K_y, K_x, C_out].
        stride, padding: rows and columns.
    """

    target: int
    pool: int
    weight: Array
    stride: Pair
    padding: Pair


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """The input, which is layer 0, or a population.

    Args:
        name: of the node.
        shape: height, width, channels.
        outgoing: connections, in the order in which an event takes them.
        v_init, v_threshold: int64 [H, W, C]; of the input None.
        bias: the same; None where every one is 0.
        v_reset: the same; None: the threshold is subtracted.
        offset: of its first neuron among those of all populations.
    """

    name: str
    shape: tuple[int, int, int]
    outgoing: tuple[Outgoing, ...]
    v_init: Array | None = None
    v_threshold: Array | None = None
    bias: Array | None = None
    v_reset: Array | None = None
    offset: int = 0

    @property
    def size(self) -> int:
        """Its neurons."""
        return math.prod(self.shape)


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """The layers of an integer network whose input is spikes, in topological order.

    Raises:
        ExportError: other neurons than integrate-and-fire, or connections that are no convolutions
            of spikes; names the nodes.
    """
    populations = graph.nodes_of(Population)
    others = [node.name for node in populations if not isinstance(node, IF)]
    if others:
        raise ExportError(f"{', '.join(others)}: it runs integrate-and-fire neurons only")
    names = [graph.input.name, *(node.name for node in populations)]
    outgoing: dict[str, list[Outgoing]] = {name: [] for name in names}
    for node in populations:
        for connection in connections_into(graph, node):
            outgoing[connection.source].append(_outgoing(graph, connection, names))
    first = graph.input.name
    layers = [
        Layer(name=first, shape=_last(graph, first), outgoing=tuple(outgoing[first])),
    ]
    offset = 0
    for node in graph.nodes_of(IF):
        layer = _layer(graph, node, tuple(outgoing[node.name]), offset)
        layers.append(layer)
        offset += layer.size
    return tuple(layers)


def _outgoing(graph: Graph, connection: Connection, names: list[str]) -> Outgoing:
    moved = np.ascontiguousarray(connection.weight.transpose(1, 2, 3, 0).astype(np.int32))
    read, sent = (_last(graph, name)[2] for name in (connection.source, connection.target))
    if (moved.shape[0], moved.shape[3]) != (read, sent):  # the C code reads by these numbers
        raise ExportError(
            f"{connection.source} -> {connection.target}: a kernel of {moved.shape[0]} to "
            f"{moved.shape[3]} channels between populations of {read} and {sent}; put a population "
            "before the layer that changes the channels"
        )
    return Outgoing(
        target=names.index(connection.target),
        pool=connection.pool,
        weight=moved,
        stride=connection.stride,
        padding=connection.padding,
    )


def _layer(graph: Graph, node: IF, outgoing: tuple[Outgoing, ...], offset: int) -> Layer:
    shape, bias = _last(graph, node.name), bias_into(graph, node)
    reset = None if node.v_reset is None else _spread(graph, node, np.floor(node.v_reset))
    return Layer(
        name=node.name,
        shape=shape,
        outgoing=outgoing,
        v_init=_spread(graph, node, np.floor(node.v_init)),
        v_threshold=_spread(graph, node, node.v_threshold),
        bias=np.ascontiguousarray(np.broadcast_to(bias, shape)) if bias.any() else None,
        v_reset=reset,
        offset=offset,
    )


def _last(graph: Graph, name: str) -> tuple[int, int, int]:
    channels, height, width = image_shape(graph.shape(name))
    return height, width, channels


def _spread(graph: Graph, node: IF, values: Array) -> Array:
    """A parameter for each neuron, int64 [H, W, C]."""
    shape = graph.shape(node.name)
    whole = np.broadcast_to(values, shape).reshape(image_shape(shape))
    return np.ascontiguousarray(whole.transpose(1, 2, 0).astype(np.int64))
