"""The convolutions of spikes between populations, each with the pooling of its sender.

    population -> sum pooling (side p) -> convolution -> population

A fully connected layer is a convolution of the size of its map, a shortcut one of size 1; a signal
is an image of width 1, a vector one of size 1 by 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    LINEAR_NODES,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Linear,
    Node,
    Output,
    Population,
)
from icsnn_deploy.targets.paths import (
    SpikePath,
    image_shape,
    is_pool,
    is_zero_point,
    makes_channels_of_pixels,
    paths_into,
)
from icsnn_deploy.targets.resources import total_bias

Pair = tuple[int, int]
ImageShape = tuple[int, int, int]

MOST_FLATTENED = 4096
"""Neurons of maps that a path flattens without a Linear: it has a weight for each two of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Connection:
    """A convolution of the spikes of one source into one target.

    Args:
        source: name of the input or of a population.
        target: name of a population or of the output.
        pool: side of the windows whose spikes are summed before it; 1: none.
        weight: int64 [C_out, C_in, K_y, K_x].
        stride: of the kernel, rows and columns.
        padding: rows above and columns left of the map.
    """

    source: str
    target: str
    pool: int
    weight: Array
    stride: Pair
    padding: Pair


def connections_into(graph: Graph, target: Population | Output) -> tuple[Connection, ...]:
    """The connections into a population or the output, in the order of the sources of its joins.

    Raises:
        ExportError: what leads into it is no sum of such convolutions; names the nodes.
        TargetError: too many paths lead into it.
    """
    return tuple(_connection(graph, path) for path in paths_into(graph, target))


def bias_into(graph: Graph, target: Population | Output) -> Array:
    """The sum of all biases of a target, int64 [C].

    Raises:
        ExportError: a bias that differs between the positions of a channel.
    """
    before = graph.ancestors(target.name, lambda node: isinstance(node, LINEAR_NODES))
    for node in before:
        if isinstance(node, ChannelAffine) and is_zero_point(graph, node) and node.shift.any():
            raise ExportError(
                f"{node.name}: adds a constant to the input, which no event does; give the network "
                "its input as spikes"
            )
    total = total_bias(graph, target)
    if (total != total[:, :1, :1]).any():
        raise ExportError(
            f"{target.name}: its bias differs between the positions of a channel; one bias per "
            "channel is needed"
        )
    channels = image_shape(graph.shape(target.name))[0]
    return np.array(np.broadcast_to(total[:, 0, 0], channels))


def _connection(graph: Graph, path: SpikePath) -> Connection:
    pools, weighted = _pool_and_rest(path)
    last = pools[-1].name if pools else path.source.name
    shape = image_shape(graph.shape(last))
    if len(weighted) > 1:
        names = ", ".join(node.name for node in weighted)
        raise ExportError(
            f"{path.target.name}: {len(weighted)} connections in a row lead into it from "
            f"{path.source.name} ({names}), one is allowed; compose them (icsnn quantize does), or "
            "put a population between them"
        )
    kernel = weighted[0] if weighted else None
    if makes_channels_of_pixels(graph, path):
        weight = _flattened(graph, kernel, shape, path)
        stride, padding = (1, 1), (0, 0)
    else:
        weight, stride, padding = _kernel(kernel, shape)
    return Connection(
        source=path.source.name,
        target=path.target.name,
        pool=math.prod(node.kernel[0] for node in pools),
        weight=weight,
        stride=stride,
        padding=padding,
    )


def _pool_and_rest(path: SpikePath) -> tuple[list[Conv | AvgPool], list[Node]]:
    """The sum pooling at the beginning of a path, and the nodes after it."""
    pools: list[Conv | AvgPool] = []
    rest: list[Node] = []
    for node in path.nodes:
        if _is_even_pool(node) and not rest:
            pools.append(node)
        elif not isinstance(node, Flatten):
            rest.append(node)
    return pools, rest


def _is_even_pool(node: Node) -> TypeGuard[Conv | AvgPool]:
    """Whether a node sums square windows that do not overlap."""
    if not isinstance(node, (Conv, AvgPool)) or not is_pool(node) or len(node.kernel) != 2:
        return False
    return len({*node.kernel, *node.stride}) == 1 and not any(sum(pair) for pair in node.padding)


def _flattened(graph: Graph, node: Node | None, shape: ImageShape, path: SpikePath) -> Array:
    """Weights [C H W, C, H, W] that take each pixel of the maps to the channel it becomes."""
    size, remedy = math.prod(shape), f"put the Flatten after {path.target.name}"
    if node is not None and not isinstance(node, ChannelAffine):
        raise ExportError(
            f"{node.name}: its maps are flattened before {path.target.name}, so that a kernel has "
            f"no channel in common with the target; {remedy}"
        )
    if size > MOST_FLATTENED:
        raise ExportError(
            f"{path.target.name}: {size:,} neurons of {path.source.name} are flattened before it, "
            f"up to {MOST_FLATTENED:,} are allowed; {remedy}"
        )
    scale: Array = np.ones(1, np.int64)
    if node is not None:
        scale = np.broadcast_to(node.scale, graph.shape(node.name)).astype(np.int64).reshape(-1)
    return np.diag(np.broadcast_to(scale, size)).reshape(size, *shape)


def _kernel(node: Node | None, shape: ImageShape) -> tuple[Array, Pair, Pair]:
    """Weights [C_out, C_in, K_y, K_x], stride and padding of a node that reads maps of a shape."""
    one, none = (1, 1), (0, 0)
    match node:
        case None:
            return np.eye(shape[0], dtype=np.int64)[:, :, None, None], one, none
        case Linear():
            return node.weight.astype(np.int64).reshape(-1, *shape), one, none
        case ChannelAffine():
            scale = node.scale.astype(np.int64)
            if scale.size not in (1, len(scale)):
                raise ExportError(
                    f"{node.name}: a weight for each neuron (shape {scale.shape}); a kernel has "
                    "one for each channel"
                )
            diagonal = np.diag(np.broadcast_to(scale.reshape(-1), shape[:1]))
            return diagonal[:, :, None, None], one, none
        case Conv() if len(node.kernel) <= 2:
            dense = _dense(node)
            taps = dense.reshape(*dense.shape, *(1,) * (4 - dense.ndim))
            before = (*(pair[0] for pair in node.padding), 0)
            return taps, _two(node.stride, 1), _two(before, 0)
        case _:
            raise ExportError(f"{node.name}: a {node.kind} is no convolution of images")


def _two(values: Sequence[int], other: int) -> Pair:
    first, second = (*values, other)[:2]
    return first, second


def _dense(node: Conv) -> Array:
    """The weights of a convolution without groups and dilation."""
    outputs, per_group, *taps = node.weight.shape
    reach = [step * (k - 1) + 1 for step, k in zip(node.dilation, taps, strict=True)]
    weight = np.zeros((outputs, per_group * node.groups, *reach), np.int64)
    strided = tuple(slice(None, None, step) for step in node.dilation)
    width = outputs // node.groups
    for group in range(node.groups):
        rows = slice(group * width, (group + 1) * width)
        columns = slice(group * per_group, (group + 1) * per_group)
        weight[(rows, columns, *strided)] = node.weight[rows]
    return weight
