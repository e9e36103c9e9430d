"""Concatenation along the channels, which exists only while a model is lowered.

Most operators after it are applied to its parts (see rules.concatenate). Where that is not
possible, the concatenation becomes a sum, with each part moved to its channels by a one-hot 1x1
convolution:

    cat(a, b) = conv_a(a) + conv_b(b)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Builder, Concatenation, LoweredNode
from icsnn_deploy.graph.nodes import Add, Conv, Linear, Node, Shape


def as_sums(builder: Builder, nodes: Iterable[LoweredNode]) -> Iterator[Node]:
    """The nodes, with every concatenation rewritten as a sum."""
    for node in nodes:
        if not isinstance(node, Concatenation):
            yield node
            continue
        total, begin, placed = builder.shapes[node.name][0], 0, []
        for part in node.inputs:
            shape, name = builder.shapes[part], builder.name(f"{node.name}.part")
            yield _placed(name, part, shape, begin, total)
            placed.append(name)
            begin += shape[0]
        yield Add(name=node.name, inputs=tuple(placed))


def _placed(name: str, part: str, shape: Shape, begin: int, total: int) -> Node:
    """A layer that moves the part to its channels and leaves the others zero."""
    channels, *space = shape
    weight = np.eye(total, channels, -begin, dtype=np.float32)
    bias = np.zeros(total, np.float32)
    if not space:
        return Linear(name=name, inputs=(part,), weight=weight, bias=bias)
    ones = (1,) * len(space)
    return Conv(
        name=name,
        inputs=(part,),
        weight=weight.reshape(total, channels, *ones),
        bias=bias,
        stride=ones,
        padding=((0, 0),) * len(space),
        dilation=ones,
    )
