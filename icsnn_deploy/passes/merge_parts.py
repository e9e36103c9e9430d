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

from icsnn_deploy.errors import GraphError
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
    found = [connections[part] for part in group if part in connections]
    factors, shifts = (
        ("weight", "bias") if isinstance(first, (Conv, Linear)) else ("scale", "shift")
    )
    factor = [node.arrays()[factors] for node in found]
    shift = [node.arrays()[shifts] for node in found]
    if isinstance(first, (Conv, Linear)):
        return replace(first, name=name, weight=_total(name, factor), bias=_total(name, shift))
    source = first.inputs[0] if first is not None else group[0]
    repeats = float(len(group) - len(found))
    own = pure_scale(name, source, np.full((1,) * len(shape), repeats))
    return replace(
        own, scale=_total(name, [own.scale, *factor]), shift=_total(name, [own.shift, *shift])
    )


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


def _total(name: str, arrays: Sequence[Array]) -> Array:
    """The sum of arrays that broadcast, in float64."""
    total = np.zeros(np.broadcast_shapes(*(values.shape for values in arrays)))
    for values in arrays:
        total = total + values.astype(np.float64)
    if np.abs(total).max() > np.finfo(np.float32).max:
        raise GraphError(
            f"{name}: sums of sums add one result so often that float32 does not hold the factor; "
            "scale the model's sums, such as 0.5 * (x + x)"
        )
    return total
