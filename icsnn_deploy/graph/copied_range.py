"""The range of a sum of copies: pieces of an image, each placed where the others are zero.

Bounded one by one, n pieces would reach n times the value of one. Each of their channels reads a
single channel, so that the bounds at every position are cheap to compute.
"""

from __future__ import annotations

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.interval import Range
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Linear, Node

_LARGEST_SUM = 64  # of the magnitudes of a row; trained weights are beyond it


def range_of_copies(graph: Graph, add: Add, ranges: dict[str, Range]) -> Range | None:
    """The range of a sum of convolutions of few small weights; None for any other sum.

    Args:
        graph: an integer network.
        add: the sum.
        ranges: of all nodes before it.
    """
    if not _is_joined(graph, add):
        return None
    low, high = _bounds(graph, add, ranges, {})
    axes = tuple(range(1, low.ndim))
    return Range(
        low.min(axis=axes, keepdims=True),
        high.max(axis=axes, keepdims=True),
        sum(ranges[name].partial for name in add.inputs),
    )


def _is_joined(graph: Graph, node: Node) -> bool:
    return isinstance(node, Add) and all(_is_copy(graph.node(name)) for name in node.inputs)


def only_copies(node: Conv | Linear) -> bool:
    """Whether each output channel reads one channel, with small weights and no bias."""
    if node.bias.any():
        return False
    rows = np.abs(node.weight.reshape(*node.weight.shape[:2], -1).astype(np.int64)).sum(axis=2)
    return bool(((rows > 0).sum(axis=1) <= 1).all() and rows.max() <= _LARGEST_SUM)


def _is_copy(node: Node) -> bool:
    return isinstance(node, Conv) and only_copies(node)


def _bounds(
    graph: Graph, node: Node, ranges: dict[str, Range], known: dict[str, tuple[Array, Array]]
) -> tuple[Array, Array]:
    """Least and largest value of each neuron, [C, *positions]."""
    if node.name not in known:
        if isinstance(node, Conv) and _is_copy(node):
            known[node.name] = _copied(
                node, _bounds(graph, graph.node(node.inputs[0]), ranges, known), graph
            )
        elif _is_joined(graph, node):
            parts = [_bounds(graph, graph.node(name), ranges, known) for name in node.inputs]
            low, high = (np.sum(ends, axis=0) for ends in zip(*parts, strict=True))
            known[node.name] = low, high
        else:
            found, shape = ranges[node.name], graph.shape(node.name)
            known[node.name] = (
                np.broadcast_to(found.low, shape),
                np.broadcast_to(found.high, shape),
            )
    return known[node.name]


def _copied(node: Conv, source: tuple[Array, Array], graph: Graph) -> tuple[Array, Array]:
    """The bounds of a convolution whose channels each read one channel."""
    shape = graph.shape(node.name)
    per_group = node.weight.shape[1]
    reads: Array = (node.weight.reshape(*node.weight.shape[:2], -1) != 0).any(axis=2)
    group = np.arange(len(reads)) // (len(reads) // node.groups)
    channel = group * per_group + reads.argmax(axis=1)
    weight = node.weight[np.arange(len(reads)), reads.argmax(axis=1)].astype(np.float64)
    pads = ((0, 0), *node.padding)
    low, high = (np.pad(end[channel], pads) for end in source)
    total_low, total_high = np.zeros(shape), np.zeros(shape)
    for tap in np.ndindex(*node.kernel):
        factor = weight[(slice(None), *tap)].reshape(-1, *(1,) * len(tap))
        if not factor.any():
            continue
        window = tuple(
            slice(t * d, t * d + s * (n - 1) + 1, s)
            for t, d, s, n in zip(tap, node.dilation, node.stride, shape[1:], strict=True)
        )
        place = (slice(None), *window)
        ends = factor * low[place], factor * high[place]
        total_low += np.minimum(*ends)
        total_high += np.maximum(*ends)
    return total_low, total_high
