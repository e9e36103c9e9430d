"""When one node in the place of two costs too much: in weights and in multiply-adds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from icsnn_deploy.graph.nodes import Conv, Linear, Node, Shape

_RATIO = 4
"""How much more a connection may cost than the nodes that it replaces. A bottleneck that narrows
by t and widens again costs t / 2 times as much (t = 6 in MobileNetV2)."""

_COPY_RATIO = 2
"""The same for a connection that only copies spikes: on the lattice it costs no precision."""

_ALWAYS_WEIGHTS = 2**20
_ALWAYS_OPERATIONS = 2**24
"""A connection below both is composed at any ratio."""


@dataclass(frozen=True)
class Cost:
    """Cost of one node or several.

    Attributes:
        operations: multiply-adds per sample and step.
        weights: as a dense matrix per tap, as formats without groups store them.
    """

    operations: int
    weights: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.operations + other.operations, self.weights + other.weights)

    def exceeds(self, other: Cost, ratio: float) -> bool:
        """Whether this is more than `ratio` times the other, in weights or in operations."""
        return self.operations > ratio * other.operations or self.weights > ratio * other.weights


def cost(node: Node, shape: Shape) -> Cost:
    """Cost of a node whose result has this shape."""
    match node:
        case Conv():
            size = node.weight.size
            return Cost(size * math.prod(shape[1:]), size * node.groups)
        case Linear():
            return Cost(node.weight.size, node.weight.size)
    return Cost(math.prod(shape), shape[0])


def costs_too_much(one: Cost, several: Cost, *, copies: bool) -> bool:
    """Whether one node is not to replace several.

    Args:
        one: cost of the composed node.
        several: cost of the nodes that it replaces.
        copies: whether the earlier ones only copy spikes.
    """
    if copies:
        return one.exceeds(several, _COPY_RATIO)
    small = one.weights <= _ALWAYS_WEIGHTS and one.operations <= _ALWAYS_OPERATIONS
    return not small and one.exceeds(several, _RATIO)


def pads_too_much(node: Node, before: Shape, between: Shape) -> bool:
    """Whether a composed convolution reads mostly padding: memory, and no format likes it.

    Placing one row of an image in another has a stride as long as the image, and its padding is
    the product of both lengths.

    Args:
        node: the composed node.
        before: shape of its input.
        between: shape between the nodes that it replaces.
    """
    if not isinstance(node, Conv):
        return False
    after = node.output_shape(before)
    return any(
        sum(pair) > max(length, middle, result) + size
        for pair, length, middle, result, size in zip(
            node.padding, before[1:], between[1:], after[1:], node.kernel, strict=True
        )
    )


def better_together(separate: Cost, together: Cost) -> bool:
    """Whether a node is to be applied to a sum of copies once, not to each of them."""
    return separate.exceeds(together, _COPY_RATIO)
