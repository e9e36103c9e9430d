"""The form of a network that py-spinnaker2's NIR importer runs: convolutions between populations.

Its importer (`spinnaker2.s2_nir.from_nir`, read, not run) takes NIR's Input, Conv2d, IF and Output;

- a weight node between two populations, not two in a row, and none before the output; a Flatten
  before an Affine is dropped without an error, so that everything is a convolution of images here;
- weights that are cut to int8;
- of several weight nodes into a population the bias of the last one only;
- potentials that start at 0: an extra channel, the relay, adds v_init in the first step;
- a comparison that is > or >=: numbers are doubled where int8 holds them, with v_init + 1/2, so
  that no potential equals a threshold.

    input [C + 1] -> conv -> if [C + 1] -> conv -> if [C + 1] -> output      channel C: the relay

The relay of the input is 1 in the first step and 0 after it; that of a population fires in the
first step, too, and then never. The last layer runs on the host, on spike counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.speck.connections import Connection, bias_into, connections_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Add, Conv, Input, Node, Output, Population
from icsnn_deploy.passes.edit import unique_name
from icsnn_deploy.targets.paths import image_shape

RELAY_THRESHOLD, RELAY_WEIGHT = 2, 3
"""A relay fires once: 3 >= 2, and 1 is left."""
INT8 = 127


def for_spinnaker2(graph: Graph) -> Graph:
    """Rewrite an integer network; its own channels spike as before.

    Args:
        graph: takes spikes.

    Raises:
        ExportError: analog input, a float network, a hard reset, or numbers that int8 can't hold;
            names the nodes and what to do.
    """
    _check(graph)
    populations = graph.nodes_of(IF)
    channels, height, width = image_shape(graph.input.shape)
    nodes: list[Node] = [
        Input(
            name=graph.input.name,
            shape=(channels + 1, height, width),
            dtype="uint8",
            encoding="events",
        )
    ]
    for node in populations:
        nodes += _population(graph, node, [one.name for one in (*graph.nodes, *nodes)])
    read = {each.source for each in connections_into(graph, graph.output)}
    if len(read) != 1 or graph.input.name in read:
        raise ExportError(
            f"{graph.output.name}: read from {', '.join(sorted(read))}; one population can be the "
            "output here"
        )
    nodes.append(Output(name=graph.output.name, inputs=(read.pop(),)))
    return Graph(
        nodes=tuple(nodes),
        time_steps=graph.steps,
        readout_start=graph.readout_start,
        provenance={"spinnaker2": {"graph_hash": graph.hash()}},
    )


def relay_events(spikes: Array) -> Array:
    """The input of the rewritten network: spikes [T, N, *shape] with the relay as last channel."""
    steps, batch = spikes.shape[:2]
    images = spikes.reshape(steps, batch, *image_shape(spikes.shape[2:]))
    relay = np.zeros((steps, batch, 1, *images.shape[3:]), spikes.dtype)
    relay[0] = 1
    return np.concatenate([images, relay], axis=2)


def _check(graph: Graph) -> None:
    if not graph.is_integer:
        raise ExportError("a float network: make an integer one with icsnn quantize")
    if not graph.input.is_timed:
        raise ExportError(
            f"{graph.input.name}: analog values, but the importer's input is spikes; export the "
            "chip part of icsnn split --host-first-layer"
        )
    for node in graph.nodes_of(Population):
        if not isinstance(node, IF) or node.v_reset is not None:
            raise ExportError(f"{node.name}: no neuron with soft reset, the importer's default")


def _population(graph: Graph, node: IF, taken: Sequence[str]) -> list[Node]:
    """The connections into a population, their sum, and the population with its relay."""
    connections = connections_into(graph, node)
    channels = image_shape(graph.shape(node.name))[0]
    v_init, bias = _v_init(graph, node, channels), bias_into(graph, node)
    weights = [int(np.abs(each.weight).max(initial=0)) for each in connections]
    factor = 2 if 2 * max(*weights, int(np.abs(v_init).max()) + 1) <= INT8 else 1
    if factor == 2:  # a spike of the relay adds 2 v_init + 1
        v_init, bias = 2 * v_init + 1, 2 * bias
        connections = tuple(replace(each, weight=2 * each.weight) for each in connections)
    made: list[Node] = []
    for number, each in enumerate(connections):
        is_last = number == len(connections) - 1
        name = unique_name(f"{node.name}.from.{each.source}", [*taken, *(n.name for n in made)])
        own = bias if is_last else np.zeros_like(bias)
        made.append(_convolution(graph, name, each, v_init if is_last else None, own))
    source = made[-1].name
    if len(made) > 1:
        total = Add(
            name=unique_name(f"{node.name}.sum", taken), inputs=tuple(one.name for one in made)
        )
        made, source = [*made, total], total.name
    thresholds = np.broadcast_to(node.v_threshold, graph.shape(node.name))
    own_thresholds = thresholds.reshape(channels, -1)
    if (own_thresholds != own_thresholds[:, :1]).any():
        raise ExportError(f"{node.name}: a threshold for each neuron; one per channel is needed")
    values = np.append(factor * own_thresholds[:, 0], RELAY_THRESHOLD).astype(np.int32)
    population = IF(
        name=node.name,
        inputs=(source,),
        v_threshold=values.reshape(-1, 1, 1),
        v_init=np.full((channels + 1, 1, 1), 0.5, np.float32),
    )
    return [*made, population]


def _convolution(
    graph: Graph, name: str, connection: Connection, v_init: Array | None, bias: Array
) -> Conv:
    """A connection with its pooling folded in, and with the relay's weights."""
    pool = connection.pool
    weight = np.kron(connection.weight, np.ones((pool, pool), np.int64))
    _, height, width = image_shape(graph.shape(connection.source))
    _, *sizes = image_shape(graph.shape(connection.target))
    stride = (connection.stride[0] * pool, connection.stride[1] * pool)
    padding, more = [], []
    for axis, (length, rows) in enumerate(zip((height, width), sizes, strict=True)):
        if length % pool:
            raise ExportError(
                f"{connection.source}: sums over windows of {pool} leave rows over of {length}"
            )
        first = connection.padding[axis] * pool
        found = _even_padding(length, rows, stride[axis], first, weight.shape[2 + axis])
        padding.append(found[0])
        more.append((found[0] - first, found[1]))
    weight = np.pad(weight, ((0, 1), (0, 1), *more))
    if v_init is not None:
        tap = tuple(
            _tap_inside(name, length, rows, stride[axis], padding[axis], weight.shape[2 + axis])
            for axis, (length, rows) in enumerate(zip((height, width), sizes, strict=True))
        )
        weight[:-1, -1, tap[0], tap[1]] = v_init
        weight[-1, -1, tap[0], tap[1]] = RELAY_WEIGHT
    if np.abs(weight).max(initial=0) > INT8:
        raise ExportError(
            f"{connection.target}: weights and initial potentials up to {np.abs(weight).max()}, "
            f"which the importer cuts to int8 ({INT8}); quantize to fewer bits"
        )
    return Conv(
        name=name,
        inputs=(connection.source,),
        weight=weight.astype(np.int8),
        bias=np.append(bias, 0).astype(np.int32),
        stride=stride,
        padding=tuple((each, each) for each in padding),
        dilation=(1, 1),
    )


def _even_padding(length: int, rows: int, stride: int, first: int, taps: int) -> tuple[int, int]:
    """The same padding at both ends, and the zeros to append to the kernel, that give the rows."""
    for padding in range(first, first + taps + stride * rows + 1):
        side = taps + padding - first
        for zeros in range(stride * rows + taps + 1):
            room = length + 2 * padding - side - zeros
            if room >= 0 and room // stride + 1 == rows:
                return padding, zeros
    raise ExportError(f"no even padding makes {rows} rows of {length}; pad both ends alike")


def _tap_inside(name: str, length: int, rows: int, stride: int, padding: int, taps: int) -> int:
    """A tap that is inside of the map at every position."""
    for tap in range(taps):
        if tap >= padding and (rows - 1) * stride - padding + tap < length:
            return tap
    raise ExportError(f"{name}: no tap of its kernel is inside of the map at every position")


def _v_init(graph: Graph, node: IF, channels: int) -> Array:
    whole = np.broadcast_to(np.floor(node.v_init), graph.shape(node.name)).reshape(channels, -1)
    if (whole != whole[:, :1]).any():
        raise ExportError(f"{node.name}: an initial potential for each neuron; one per channel")
    first: Array = whole[:, 0].astype(np.int64)
    return first
