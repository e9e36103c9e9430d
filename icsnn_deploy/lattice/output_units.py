"""The units of the output: one for each of the model's outputs, where they read other channels.

The values of one output are compared with each other, so all channels that it reads have the same
unit. Outputs that read the same channel share their unit; those that share none have units of their
own, so that a head of small values keeps its resolution beside one of large values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Flatten, Linear, Output
from icsnn_deploy.lattice.prepare import is_exact

UNREAD = -1
"""Group of the channels that no output reads."""


def output_groups(graph: Graph, sharing: Mapping[str, Sequence[str]]) -> dict[str, Array]:
    """For each node that feeds the output, the group of each of its channels, [C].

    The channels of a group share one unit. Without several outputs there is one group, 0.

    Args:
        graph: a prepared network.
        sharing: the nodes that share units because they are summed (see sharing_groups).
    """
    groups = _Groups(max(1, len(graph.output.parts)))
    values = math.prod(graph.shape(graph.output.name))
    labels = {graph.output.name: groups.of_values(graph.output, values)}
    for node in reversed(graph.nodes):
        if node.name not in labels:
            continue
        own = labels[node.name]
        if not isinstance(node, (Output, Add, Flatten)):
            own = groups.by_channel(own, graph.shape(node.name)[0])
            labels[node.name] = own
            if not is_exact(node):
                continue
            shape = graph.shape(node.inputs[0])
            own = np.repeat(groups.before(node, own, shape[0]), math.prod(shape[1:]))
        for source in dict.fromkeys(node.inputs):
            labels[source] = groups.merged(labels.get(source), own)
    for members in sharing.values():
        fed = [name for name in members if name in labels]
        for one, other in pairwise(fed):
            labels[other] = groups.merged(labels[one], labels[other])
        for other, one in pairwise(reversed(fed)):
            labels[one] = labels[other]
    ends = (Output, Add, Flatten)
    return {
        name: groups.final(own)
        for name, own in labels.items()
        if not isinstance(graph.node(name), ends)
    }


class _Groups:
    """Numbers of outputs, joined where outputs share a channel; UNREAD joins nothing."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def of_values(self, output: Output, count: int) -> Array:
        """The group of each value of the output, [count]."""
        if output.index is None:
            return np.zeros(count, np.int64)
        labels = np.full(count, UNREAD)
        ends = np.cumsum([part.size for part in output.parts])[:-1]
        for number, positions in enumerate(np.split(output.index, ends)):
            own = np.full(count, UNREAD)
            own[positions] = number
            labels = self.merged(labels, own)
        return labels

    def by_channel(self, labels: Array, channels: int) -> Array:
        """The group of each channel, whose values are joined, [C]."""
        rows = labels.reshape(channels, -1)
        first: Array = rows.max(axis=1)
        self.merged(np.broadcast_to(first[:, None], rows.shape), rows)
        return first

    def before(self, node: Conv | Linear, labels: Array, channels: int) -> Array:
        """The group of each channel that exact weights read, [C_in], for those of the result."""
        read = node.weight.reshape(*node.weight.shape[:2], -1).any(axis=2)  # [O, C_in / groups]
        width = channels // read.shape[1]  # groups
        result = np.full(channels, UNREAD)
        for label in np.unique(labels[labels != UNREAD]):
            rows = read & (labels == label)[:, None]
            columns = rows.reshape(width, -1, read.shape[1]).any(axis=1).reshape(-1)
            result = self.merged(result, np.where(columns, label, UNREAD))
        return result

    def merged(self, one: Array | None, other: Array) -> Array:
        """Join the groups that meet at a place; returns one of them, or the only one."""
        if one is None:
            return other
        both = (one != other) & (one != UNREAD) & (other != UNREAD)
        for pair in np.unique(np.stack([one[both], other[both]]), axis=1).T:
            first, second = (self._root(int(label)) for label in pair)
            self.parent[max(first, second)] = min(first, second)
        result: Array = np.where(one == UNREAD, other, one)
        return result

    def final(self, labels: Array) -> Array:
        """The labels, with the same number for groups that were joined."""
        roots = [*(self._root(label) for label in range(len(self.parent))), UNREAD]
        return np.array(roots)[labels]

    def _root(self, label: int) -> int:
        while self.parent[label] != label:
            label = self.parent[label]
        return label


def output_unit(graph: Graph, units: Array) -> float | tuple[float, ...]:
    """What 1 at the output represents, in units of the ANN's logits; one number per part.

    Args:
        graph: the integer network.
        units: of the output, ready to broadcast to its shape.

    Returns:
        one number where all parts have the same.
    """
    node = graph.output
    if node.index is None or units.min() == units.max():
        return float(np.mean(units))
    each = np.broadcast_to(units, graph.shape(node.name)).reshape(-1)[node.index]
    ends = np.cumsum([part.size for part in node.parts])[:-1]
    found = tuple(_mean(part) for part in np.split(each, ends))
    return found if len(set(found)) > 1 else found[0]


def channel_units(graph: Graph, units: Array) -> Array:
    """What 1 represents in each channel of the output, [C]; as output_unit."""
    shape = graph.shape(graph.output.name)
    unit = output_unit(graph, units)
    if not isinstance(unit, tuple):
        return np.full(shape[0], unit)
    mean: Array = np.broadcast_to(units, shape).reshape(shape[0], -1).mean(axis=1)
    return mean


def largest_of_group(values: Array, groups: Array) -> Array:
    """For each channel the largest value in its group, [C]."""
    result = np.empty(len(groups), values.dtype)
    for group in np.unique(groups):
        rows = groups == group
        result[rows] = np.broadcast_to(values, groups.shape)[rows].max()
    return result


def _mean(values: Array) -> float:
    """The mean, exact where all values are equal."""
    return float(values[0] if values.min() == values.max() else values.mean())
