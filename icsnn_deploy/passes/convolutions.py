"""Compose two convolutions in a row to one, and convert convolutions with and without groups.

y[p] = sum_k w2[k] * (sum_j w1[j] * x[s1 (s2 p + d2 k) + d1 j])
     = sum over offsets of w * x, where w collects all w2[k] * w1[j] of one offset
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import ChannelAffine, Conv, Node, Pairs, Shape
from icsnn_deploy.passes.window import Window, windows


def is_diagonal(node: Node) -> bool:
    """Return whether a node computes each channel from that channel alone."""
    if isinstance(node, Conv):
        return node.groups == len(node.weight) and node.weight.shape[1] == 1
    return isinstance(node, ChannelAffine)


def dense_weight(conv: Conv) -> Array:
    """Return the weights without groups, [C_out, C_in, *kernel], float64."""
    outputs, per_group = conv.weight.shape[:2]
    width = outputs // conv.groups
    dense = np.zeros((outputs, per_group * conv.groups, *conv.kernel))
    for group in range(conv.groups):
        rows = slice(group * width, (group + 1) * width)
        dense[rows, group * per_group : (group + 1) * per_group] = conv.weight[rows]
    return dense


def depthwise(node: Node, weight: Array, bias: Array, padding: Pairs) -> Conv:
    """Return a depthwise convolution of kernel size 1.

    Args:
        node: whose name and inputs it takes.
        weight: [C].
        bias: [C].
        padding: (before, after) for each spatial axis.
    """
    ones = (1,) * len(padding)
    return Conv(
        name=node.name,
        inputs=node.inputs,
        weight=weight.reshape(-1, 1, *ones),
        bias=bias,
        stride=ones,
        padding=padding,
        dilation=ones,
        groups=len(bias),
    )


def compose_convolutions(second: Conv, first: Conv, shapes: tuple[Shape, Shape]) -> Conv | None:
    """Return second(first(x)) as one convolution, named after the second, or None.

    Taps without weight at the border of the first kernel are removed.

    Args:
        second: the later convolution.
        first: the earlier convolution.
        shapes: of x, and of first(x).
    """
    positions = second.output_shape(shapes[1])[1:]
    padded = [any(pair) for pair in second.padding]
    if any(padded) and first.bias.any():
        return None  # zeros are padded after the bias, not before it
    used = [_used(first, axis) for axis in range(len(padded))]
    for axis, taps in enumerate(used):
        if padded[axis] and not _keeps_zeros(first, second, axis, taps, shapes):
            return None
    merged = [_offsets(first, second, axis, taps) for axis, taps in enumerate(used)]
    stride = tuple(a * b for a, b in zip(first.stride, second.stride, strict=True))
    found = windows(tuple(merged), stride=stride, lengths=shapes[0][1:], positions=positions)
    if found is None:
        return None
    weight, groups = _product(first, second, used, merged, found)
    bias = second.bias.astype(np.float64)
    if first.bias.any():
        tail = dense_weight(second)
        bias = bias + tail.sum(axis=tuple(range(2, tail.ndim))) @ first.bias
    return replace(
        second,
        inputs=first.inputs,
        weight=weight,
        bias=bias,
        stride=stride,
        padding=tuple(one.padding for one in found),
        dilation=tuple(one.dilation for one in found),
        groups=groups,
    )


def _used(conv: Conv, axis: int) -> range:
    """The range from the first to the last tap of an axis that has a weight."""
    others = tuple(i for i in range(conv.weight.ndim) if i != axis + 2)
    taps = np.flatnonzero(conv.weight.any(axis=others))
    return range(int(taps[0]), int(taps[-1]) + 1) if len(taps) else range(1)


def _keeps_zeros(
    first: Conv, second: Conv, axis: int, taps: range, shapes: tuple[Shape, Shape]
) -> bool:
    """Whether `first`, evaluated beyond its border where the second pads, reads only zeros."""
    if len(taps) != 1:
        return False
    offset = first.dilation[axis] * taps[0] - first.padding[axis][0]
    before, after = second.padding[axis]
    stride = first.stride[axis]
    length, count = shapes[0][axis + 1], shapes[1][axis + 1]
    return (not before or offset < stride) and (not after or stride * count + offset >= length)


def _offsets(first: Conv, second: Conv, axis: int, taps: range) -> range:
    """The offsets that both together read along an axis, relative to stride * position."""
    inner, outer = first.dilation[axis], first.stride[axis] * second.dilation[axis]
    count = second.kernel[axis]
    low = inner * taps[0] - first.padding[axis][0] - first.stride[axis] * second.padding[axis][0]
    high = low + inner * (len(taps) - 1) + outer * (count - 1)
    step = outer if len(taps) == 1 else inner if count == 1 else math.gcd(inner, outer)
    return range(low, high + 1, step)


def _product(
    first: Conv, second: Conv, used: list[range], merged: list[range], found: tuple[Window, ...]
) -> tuple[Array, int]:
    """The weights of the composed convolution, and its groups."""
    tail, head, multiply, groups = _factors(first, second)
    shape = multiply(*(f.reshape(*f.shape[:2], -1)[:, :, 0] for f in (tail, head))).shape
    weight = np.zeros((*shape, *(one.size for one in found)))
    for outer in np.ndindex(*second.kernel):
        for inner in np.ndindex(*(len(taps) for taps in used)):
            place = tuple(
                found[axis].first
                + (first.stride[axis] * second.dilation[axis] * o + first.dilation[axis] * i)
                // merged[axis].step
                for axis, (o, i) in enumerate(zip(outer, inner, strict=True))
            )
            taps = tuple(t[i] for t, i in zip(used, inner, strict=True))
            weight[(..., *place)] += multiply(tail[(..., *outer)], head[(..., *taps)])
    return weight, groups


def _factors(first: Conv, second: Conv) -> tuple[Array, Array, np.ufunc, int]:
    """Weights [O, M, *kernel] and [M, K, *kernel], the product of two taps, and the groups.

    If one of the two is depthwise, weights are multiplied elementwise and the groups of the other
    are kept.
    """
    tail, head = second.weight.astype(np.float64), first.weight.astype(np.float64)
    width = len(tail) // second.groups
    if is_diagonal(first):
        grouped = head.reshape(second.groups, -1, *first.kernel)  # [g, C / g, *kernel]
        return tail, np.repeat(grouped, width, axis=0), np.multiply, second.groups
    if second.weight.shape[1] == 1 and second.groups == len(head):
        return tail, np.repeat(head, width, axis=0), np.multiply, first.groups
    return dense_weight(second), dense_weight(first), np.matmul, 1
