"""The cores of a network: for each population its kernel, its parameters, and where its spikes go.

A join is one kernel in which each source has its own input channels. Its taps are padded with
zeros to a square whose rows and columns give the population's map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.speck.connections import (
    Connection,
    Pair,
    bias_into,
    connections_into,
)
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.targets.allocate import allocate_cnn
from icsnn_deploy.targets.cnn import cnn_layers
from icsnn_deploy.targets.paths import image_shape
from icsnn_deploy.targets.speck import SPECK


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where the spikes of a source go.

    Args:
        layer: name of the population that receives them.
        pool: side of the windows whose spikes are summed.
        first_channel: channel of the receiver's kernel that the first channel becomes.
    """

    layer: str
    pool: int
    first_channel: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Core:
    """One core: a convolution and a population.

    Args:
        layer: name of the population.
        number: of the core.
        weight: int64 [C_out, C_in, K, K].
        bias: int64 [C_out], added at every tick of the clock.
        stride, padding: rows and columns.
        input_shape: channels, height and width of the maps that it receives.
        v_threshold: of all neurons.
        v_init: int64 [C_out, H, W], rounded down.
        hard_reset: whether a spike sets the potential to 0; otherwise it subtracts v_threshold.
        routes: at most two.
        is_read: whether the host reads its spikes.
    """

    layer: str
    number: int
    weight: Array
    bias: Array
    stride: Pair
    padding: Pair
    input_shape: tuple[int, int, int]
    v_threshold: int
    v_init: Array
    hard_reset: bool
    routes: tuple[Route, ...]
    is_read: bool


def cores_of(graph: Graph) -> tuple[tuple[Core, ...], tuple[Route, ...]]:
    """The cores of a network that fits Speck, in topological order, and the routes of its input.

    Raises:
        ExportError: the network has no such kernels; names the nodes.
    """
    populations = graph.nodes_of(IF)
    into = {node.name: connections_into(graph, node) for node in populations}
    read = {each.source for each in connections_into(graph, graph.output)}
    if graph.input.name in read:
        raise ExportError(
            f"{graph.output.name}: reads the input without a population between them; the host "
            "reads the spikes of populations"
        )
    routes: dict[str, list[Route]] = {node.name: [] for node in (graph.input, *populations)}
    for name, connections in into.items():
        first = 0
        for each in connections:
            routes[each.source].append(Route(layer=name, pool=each.pool, first_channel=first))
            first += each.weight.shape[1]
    kernels = {node.name: _kernel(graph, node, into[node.name]) for node in populations}
    numbers = _numbers(graph, populations, kernels)
    cores = tuple(
        Core(
            layer=node.name,
            number=numbers[node.name],
            weight=kernels[node.name].weight,
            bias=bias_into(graph, node),
            stride=kernels[node.name].stride,
            padding=kernels[node.name].padding,
            input_shape=kernels[node.name].input_shape,
            v_threshold=int(node.v_threshold.flat[0]),
            v_init=_v_init(graph, node),
            hard_reset=node.v_reset is not None,
            routes=tuple(routes[node.name]),
            is_read=node.name in read,
        )
        for node in populations
    )
    return cores, tuple(routes[graph.input.name])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kernel:
    weight: Array
    stride: Pair
    padding: Pair
    input_shape: tuple[int, int, int]


def _kernel(graph: Graph, node: IF, connections: Sequence[Connection]) -> _Kernel:
    """One square kernel of all connections of a join."""
    sizes = {_pooled(graph, each) for each in connections}
    strides = {each.stride for each in connections}
    if len(sizes) != 1 or len(strides) != 1:
        raise ExportError(
            f"{node.name}: joins maps of different sizes or strides; a core has one kernel"
        )
    ((height, width),) = sizes
    (stride,) = strides
    above = [max(each.padding[axis] for each in connections) for axis in (0, 1)]
    below = [
        max(each.weight.shape[2 + axis] - each.padding[axis] for each in connections)
        for axis in (0, 1)
    ]
    outputs, rows, columns = image_shape(graph.shape(node.name))
    side, stride, padding = _square(
        node.name, (height, width), (rows, columns), stride, (above[0], above[1]), below
    )
    inputs = sum(each.weight.shape[1] for each in connections)
    weight = np.zeros((outputs, inputs, side, side), np.int64)
    first = 0
    for each in connections:
        _, channels, taps_y, taps_x = each.weight.shape
        y, x = (padding[axis] - each.padding[axis] for axis in (0, 1))
        weight[:, first : first + channels, y : y + taps_y, x : x + taps_x] = each.weight
        first += channels
    shape = (inputs, height, width)
    return _Kernel(weight=weight, stride=stride, padding=padding, input_shape=shape)


def _square(
    name: str, size: Pair, result: Pair, stride: Pair, above: Pair, below: Sequence[int]
) -> tuple[int, Pair, Pair]:
    """The smallest square kernel with these taps whose map has the size of the population's.

    A chip pads both ends alike: size = (input + 2 padding - side) // stride + 1.
    """
    strides = [stride]
    if result == (1, 1):  # then the stride is free
        strides += [(other, other) for other in SPECK.strides or ()]
    for side in range(1, (SPECK.kernel_size or 1) + 1):
        for steps in strides:
            found = [
                next(
                    (
                        padding
                        for padding in range(above[axis], (SPECK.padding or 0) + 1)
                        if side - padding >= below[axis]
                        and size[axis] + 2 * padding >= side
                        and (size[axis] + 2 * padding - side) // steps[axis] + 1 == result[axis]
                    ),
                    None,
                )
                for axis in (0, 1)
            ]
            if found[0] is not None and found[1] is not None:
                return side, steps, (found[0], found[1])
    raise ExportError(
        f"{name}: no square kernel up to {SPECK.kernel_size} with the same padding up to "
        f"{SPECK.padding} at both ends makes its map of {result[0]} x {result[1]} from "
        f"{size[0]} x {size[1]}; pad both ends alike in the model"
    )


def _pooled(graph: Graph, connection: Connection) -> Pair:
    _, height, width = image_shape(graph.shape(connection.source))
    return height // connection.pool, width // connection.pool


def _v_init(graph: Graph, node: IF) -> Array:
    """Potentials at the start, rounded down: their fraction of 1/2 decides no comparison."""
    shape = graph.shape(node.name)
    whole: Array = np.broadcast_to(np.floor(node.v_init), shape).astype(np.int64)
    return whole.reshape(image_shape(shape))


def _numbers(
    graph: Graph, populations: Sequence[IF], kernels: dict[str, _Kernel]
) -> dict[str, int]:
    """The core of each population, by the matching that check makes."""
    layers, _ = cnn_layers(graph, populations, SPECK)
    exact = [replace(one, kernel=kernels[one.layer].weight.shape[2]) for one in layers]
    allocation = allocate_cnn(exact, SPECK)
    assert allocation is not None, "Speck has cores"
    if allocation.proofs:
        raise ExportError(f"the network does not fit Speck: {'; '.join(allocation.proofs)}")
    numbers = {each.layer: each.core for each in allocation.placements}
    return {name: number for name, number in numbers.items() if number is not None}
