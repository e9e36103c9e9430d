"""Interval arithmetic over an integer network: the range of each node's result.

The bounds of a channel are the sums of its negative terms and of its positive terms, over the
ranges of the sources. The sum of any subset of the terms lies between them, so that the bounds hold
for any order of summation, any blocking and any padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Population,
    Relu,
)

_BEYOND = 2.0**62  # larger bounds are clipped to this, so that deep networks stay finite


@dataclass(frozen=True, eq=False)
class Range:
    """Least and largest value per channel, and the largest |partial sum| up to this node.

    float64, exact below 2^53; int64 would wrap around where float64 rounds.
    """

    low: Array  # float64, ready to broadcast
    high: Array
    partial: int

    @property
    def magnitude(self) -> int:
        return int(max(np.abs(self.low).max(), np.abs(self.high).max()))

    def limited(self) -> Range:
        """The same range, clipped to +-2^62."""
        low, high = np.clip(self.low, -_BEYOND, _BEYOND), np.clip(self.high, -_BEYOND, _BEYOND)
        return Range(low, high, min(self.partial, int(_BEYOND)))


def range_of(node: Node, sources: list[Range]) -> Range:
    """The range of a node's result at one step.

    Args:
        node: of an integer network.
        sources: the ranges of its sources.

    Raises:
        LatticeError: the node has no place in an integer network.
    """
    match node:
        case Input():
            limits = np.iinfo(node.dtype)
            ends = (0, 1) if node.is_timed else (int(limits.min), int(limits.max))
            low, high = (np.full((1,) * len(node.shape), end, np.float64) for end in ends)
            return Range(low, high, max(map(abs, ends)))
        case Population():
            one = np.ones((1,) * node.v_threshold.ndim)
            return Range(0 * one, one, 1)
        case Conv() | Linear():
            return _affine(node, sources[0])
        case ChannelAffine():
            return _diagonal(node, sources[0])
        case Add():
            low = _total([source.low for source in sources])
            high = _total([source.high for source in sources])
            return Range(low, high, sum(source.partial for source in sources))
        case Flatten():
            source = sources[0]
            # The channels are no longer apart: one range that holds all of them.
            low, high = source.low.min().reshape(1), source.high.max().reshape(1)
            return Range(low, high, source.partial)
        case Output():
            return sources[0]
        case AvgPool() | Relu():
            raise LatticeError(
                f"{node.name}: a {node.kind} has no place in an integer network; quantize turns "
                "pooling into sums"
            )
        case _:
            assert_never(node)


def _total(arrays: list[Array]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def _affine(node: Conv | Linear, source: Range) -> Range:
    weight = node.weight
    groups = node.groups if isinstance(node, Conv) else 1
    outputs, per_group = weight.shape[:2]
    shape = (groups, per_group, *(1,) * (weight.ndim - 2))
    low, high = (
        np.broadcast_to(end.reshape(-1), (groups * per_group,)).reshape(shape)
        for end in (source.low, source.high)
    )
    # A term may be missing (padding, part of a sum), so zero belongs to every term's range.
    positive, negative = np.empty(outputs), np.empty(outputs)
    for row, taps in enumerate(weight):  # row by row: a large layer does not fit the cache
        group = row * groups // outputs
        one, other = taps * low[group], taps * high[group]
        positive[row] = np.maximum(np.maximum(one, other), 0).sum()
        negative[row] = np.minimum(np.minimum(one, other), 0).sum()
    bias = node.bias.astype(np.float64)
    partial = np.maximum(positive + np.maximum(bias, 0), -(negative + np.minimum(bias, 0)))
    rank = (-1, *(1,) * (weight.ndim - 2))
    return Range(
        (negative + bias).reshape(rank),
        (positive + bias).reshape(rank),
        max(source.partial, int(partial.max())),
    )


def _diagonal(node: ChannelAffine, source: Range) -> Range:
    scale, shift = node.scale.astype(np.float64), node.shift.astype(np.float64)
    ends = np.stack(np.broadcast_arrays(scale * source.low, scale * source.high))
    low, high = ends.min(axis=0) + shift, ends.max(axis=0) + shift
    # A runtime may scale the weights before it instead, and with them every partial sum.
    sums = np.abs(scale).max() * source.partial
    reach = max(sums, *(np.abs(part).max() for part in (ends, low, high, shift)))
    if low.ndim > 1:  # one value a channel is enough from here on
        axes = tuple(range(1, low.ndim))
        low, high = low.min(axis=axes, keepdims=True), high.max(axis=axes, keepdims=True)
    return Range(low, high, max(source.partial, int(reach)))
