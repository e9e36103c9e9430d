"""Merge connections that are summed and have one source, by adding their coefficients.

    x + x + x + x                -> 4 x
    (A x) + (B x) + (C x)        -> (A + B + C) x

A sum of sums of sums, composed, is a sum over all paths, of which there are 2^n after n times
y = W y + y. Merged, it is one connection per source and geometry.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import ChannelAffine, Conv, Linear, Node, Shape
from icsnn_deploy.passes.affine import Affine, pure_scale


def groups_of_one_source(
    parts: Sequence[str], connections: Mapping[str, Affine]
) -> list[tuple[str, ...]]:
    """Summands that one connection can compute, in the order of the first of each group.

    Args:
        parts: names of the summands; one that is summed several times is listed several times.
        connections: those of them that are connections; all others are sources themselves.
    """
    groups: dict[Hashable, list[str]] = {}
    for part in parts:
        groups.setdefault(_key(part, connections.get(part)), []).append(part)
    return [tuple(group) for group in groups.values()]


def merged(
    name: str, group: Sequence[str], connections: Mapping[str, Affine], shape: Shape
) -> Node:
    """One node for the sum of a group of two or more summands.

    Args:
        name: of the node.
        group: of groups_of_one_source.
        connections: see groups_of_one_source.
        shape: of the sum.

    Raises:
        GraphError: float32 does not hold the coefficients.
    """
    first = connections.get(group[0])
    if isinstance(first, (Conv, Linear)):
        found = [connections[part] for part in group]
        weight = _total([node.arrays()["weight"] for node in found])
        return replace(
            first, name=name, weight=weight, bias=_total([n.arrays()["bias"] for n in found])
        )
    scales = [connections[part] for part in group if part in connections]
    repeats = float(len(group) - len(scales))
    source = first.inputs[0] if first is not None else group[0]
    one = pure_scale(name, source, np.full((1,) * len(shape), repeats))
    found = [node for node in scales if isinstance(node, ChannelAffine)]
    scale = _total([one.scale, *(node.scale for node in found)])
    return replace(one, scale=scale, shift=_total([one.shift, *(node.shift for node in found)]))


def _key(part: str, node: Affine | None) -> Hashable:
    """Equal for summands that one connection can compute."""
    match node:
        case None:
            return ("scale", part)
        case ChannelAffine():
            return ("scale", node.inputs[0])
        case Linear():
            return ("linear", node.inputs[0])
        case Conv():
            geometry = (node.stride, node.padding, node.dilation, node.groups, node.weight.shape)
            return ("conv", node.inputs[0], geometry)


def _total(arrays: Sequence[Array]) -> Array:
    """The sum of arrays that broadcast, in float64."""
    total = np.zeros(np.broadcast_shapes(*(values.shape for values in arrays)))
    for values in arrays:
        total = total + values.astype(np.float64)
    return total
