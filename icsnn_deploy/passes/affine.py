"""Two affine nodes in a row as one: second(first(x))."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import AvgPool, ChannelAffine, Conv, Flatten, Linear, Node, Shape
from icsnn_deploy.passes.fold_scales import dense_weight
from icsnn_deploy.passes.window import Window, windows

Affine = Conv | Linear | ChannelAffine


def composed(second: Node, first: Affine, shapes: tuple[Shape, Shape]) -> Node | None:
    """One node for second(first(x)), named after the second, or None where there is none.

    Zeros that the second node pads with are zeros, whatever the first would make of what lies
    beyond the border, so behind padding the first must be one that keeps zeros, tap by tap.

    Args:
        second: of one input.
        first: what it takes.
        shapes: of x, and of first(x).
    """
    match first, second:
        case ChannelAffine(), ChannelAffine():
            scale, shift = _double(second.scale), _double(second.shift)
            return replace(
                second,
                inputs=first.inputs,
                scale=first.scale * scale,
                shift=first.shift * scale + shift,
            )
        case ChannelAffine(), Linear():
            weight, shift = _double(second.weight), _spread(first.shift, shapes[1])
            return replace(
                second,
                inputs=first.inputs,
                weight=weight * _spread(first.scale, shapes[1]),
                bias=second.bias + weight @ shift,
            )
        case Linear(), Linear():
            weight = _double(second.weight)
            return replace(
                second,
                inputs=first.inputs,
                weight=weight @ first.weight,
                bias=second.bias + weight @ first.bias,
            )
        case ChannelAffine(), Conv() if _per_channel(first.scale) and _per_channel(first.shift):
            return _conv_after(second, _pointwise(first, shapes[1]), shapes)
        case Conv(), Conv():
            return _conv_after(second, first, shapes)
        case Conv(), ChannelAffine() if _per_channel(second.scale) and _per_channel(second.shift):
            return _conv_after(_pointwise(second, shapes[1]), first, shapes)
        case Linear(), ChannelAffine():
            rows = _spread(second.scale, shapes[1])
            return Linear(
                name=second.name,
                inputs=first.inputs,
                weight=first.weight * rows[:, None],
                bias=first.bias * rows + _spread(second.shift, shapes[1]),
            )
    return None


def behind(node: AvgPool | Flatten, first: Affine, shape: Shape) -> Affine | None:
    """What has to stand behind node(x) to give node(first(x)), or None where nothing does.

    A mean over positions goes past what treats every position alike, and flattening past a Scale.

    Args:
        node: to go in front.
        first: what it takes.
        shape: of first(x).
    """
    if isinstance(node, Flatten):
        if not isinstance(first, ChannelAffine):
            return None
        return replace(first, scale=_spread(first.scale, shape), shift=_spread(first.shift, shape))
    padded = any(n for pair in node.padding for n in pair)
    if isinstance(first, ChannelAffine):
        alike = _per_channel(first.scale) and _per_channel(first.shift)
        constant = first.shift.any()
    elif isinstance(first, Conv):
        plain = (*first.kernel, *first.stride, *(1 + n for pair in first.padding for n in pair))
        alike, constant = all(n == 1 for n in plain), first.bias.any()
    else:
        return None
    return first if alike and not (padded and constant) else None


def is_diagonal(node: Node) -> bool:
    """Whether a node treats each channel by itself."""
    if isinstance(node, Conv):
        return node.groups == len(node.weight) and node.weight.shape[1] == 1
    return isinstance(node, ChannelAffine)


def _conv_after(second: Conv, first: Conv, shapes: tuple[Shape, Shape]) -> Conv | None:
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
    bias = _double(second.bias)
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
    """From the first to the last tap of an axis that has a weight."""
    others = tuple(i for i in range(conv.weight.ndim) if i != axis + 2)
    taps = np.flatnonzero(conv.weight.any(axis=others))
    return range(int(taps[0]), int(taps[-1]) + 1) if len(taps) else range(1)


def _keeps_zeros(
    first: Conv, second: Conv, axis: int, taps: range, shapes: tuple[Shape, Shape]
) -> bool:
    """Whether `first`, asked beyond its border where the second pads, would read zeros alone."""
    if len(taps) != 1:
        return False
    offset = first.dilation[axis] * taps[0] - first.padding[axis][0]
    before, after = second.padding[axis]
    stride = first.stride[axis]
    length, count = shapes[0][axis + 1], shapes[1][axis + 1]
    return (not before or offset < stride) and (not after or stride * count + offset >= length)


def _offsets(first: Conv, second: Conv, axis: int, taps: range) -> range:
    """What the two together read along an axis, relative to stride * position."""
    inner, outer = first.dilation[axis], first.stride[axis] * second.dilation[axis]
    count = second.kernel[axis]
    low = inner * taps[0] - first.padding[axis][0] - first.stride[axis] * second.padding[axis][0]
    high = low + inner * (len(taps) - 1) + outer * (count - 1)
    step = outer if len(taps) == 1 else inner if count == 1 else math.gcd(inner, outer)
    return range(low, high + 1, step)


def _product(
    first: Conv, second: Conv, used: list[range], merged: list[range], found: tuple[Window, ...]
) -> tuple[Array, int]:
    """Weights of the two together, and their groups."""
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
    """Weights [O, M, *kernel] and [M, K, *kernel] with how a tap of each is multiplied, and groups.

    Where one of the two treats each channel by itself, weights are multiplied one by one and the
    other's groups stay.
    """
    tail, head = _double(second.weight), _double(first.weight)
    width = len(tail) // second.groups
    if is_diagonal(first):
        grouped = head.reshape(second.groups, -1, *first.kernel)  # [g, C / g, *kernel]
        return tail, np.repeat(grouped, width, axis=0), np.multiply, second.groups
    if second.weight.shape[1] == 1 and second.groups == len(head):
        return tail, np.repeat(head, width, axis=0), np.multiply, first.groups
    return dense_weight(second), dense_weight(first), np.matmul, 1


def _pointwise(scale: ChannelAffine, shape: Shape) -> Conv:
    """A Scale with one value a channel as a convolution."""
    channels, ones = shape[0], (1,) * (len(shape) - 1)
    factor, shift = (
        np.broadcast_to(_double(values).reshape(-1), (channels,))
        for values in (scale.scale, scale.shift)
    )
    return Conv(
        name=scale.name,
        inputs=scale.inputs,
        weight=factor.reshape(-1, 1, *ones),
        bias=shift,
        stride=ones,
        padding=((0, 0),) * len(ones),
        dilation=ones,
        groups=channels,
    )


def _spread(values: Array, shape: Shape) -> Array:
    """One value for each neuron, [F], float64."""
    return np.broadcast_to(_double(values), shape).reshape(-1)


def _per_channel(values: Array) -> bool:
    return all(n == 1 for n in values.shape[1:])


def _double(values: Array) -> Array:
    return values.astype(np.float64)
