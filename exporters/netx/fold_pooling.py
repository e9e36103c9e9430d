"""Fold a sum over windows into the next connection: lava-dl's .net has no pooling."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Linear, Shape


def is_foldable(conv: Conv) -> bool:
    """Whether a convolution works on each channel alone, without bias."""
    return conv.groups == conv.weight.shape[0] and conv.weight.shape[1] == 1 and not conv.bias.any()


def fold_into_conv(first: Conv, lengths: Shape, positions: Shape, second: Conv) -> Conv | None:
    """One convolution that does both; None where padding between the two prevents it.

        y = conv(w2, conv(w1, x))        before
        y = conv(w, x)                   after: w[d1 j + s1 d2 k] = sum of w1[j] w2[k]

    Args:
        first: a foldable convolution.
        lengths: spatial shape of its input.
        positions: spatial shape of its result.
        second: what takes the result.
    """
    for axis, (before, after) in enumerate(second.padding):
        start, reach = first.padding[axis][0], _reach(first, axis)
        stride = first.stride[axis]
        # a padded zero must equal the sum of a window that holds only zeros
        if before and reach > stride + start:
            return None
        if after and stride * positions[axis] - start < lengths[axis]:
            return None
    axes = range(len(lengths))
    spread = [first.stride[i] * second.dilation[i] for i in axes]
    kernel = [_reach(first, i) + spread[i] * (second.kernel[i] - 1) for i in axes]
    outputs, per_group = second.weight.shape[:2]
    group = np.arange(outputs) // (outputs // second.groups)
    channel = group[:, None] * per_group + np.arange(per_group)  # [O, C / groups]
    weight = np.zeros((outputs, per_group, *kernel), np.int64)
    for j, k in itertools.product(_taps(first.kernel), _taps(second.kernel)):
        place: Any = (..., *(first.dilation[i] * j[i] + spread[i] * k[i] for i in axes))
        here: Any = (..., *k)
        weight[place] += _tap(first, j)[channel] * second.weight[here]
    return replace(
        second,
        inputs=first.inputs,
        weight=weight,
        stride=tuple(first.stride[i] * second.stride[i] for i in axes),
        padding=tuple(
            (
                first.padding[i][0] + first.stride[i] * second.padding[i][0],
                first.padding[i][1] + first.stride[i] * second.padding[i][1],
            )
            for i in axes
        ),
        dilation=(1,) * len(lengths),
    )


def fold_into_linear(first: Conv, lengths: Shape, positions: Shape, second: Linear) -> Linear:
    """One linear layer that does both.

    Args:
        first: a foldable convolution, followed by a flatten.
        lengths: spatial shape of its input.
        positions: spatial shape of its result.
        second: what takes the flattened result.
    """
    outputs, channels = len(second.weight), len(first.weight)
    weight = second.weight.astype(np.int64).reshape(outputs, channels, *positions)
    starts = [before for before, _ in first.padding]
    room = [
        max(first.stride[i] * (positions[i] - 1) + _reach(first, i), starts[i] + lengths[i])
        for i in range(len(lengths))
    ]
    padded: Array = np.zeros((outputs, channels, *room), np.int64)
    for tap in _taps(first.kernel):
        window = tuple(
            slice(d * k, d * k + s * (n - 1) + 1, s)
            for d, k, s, n in zip(first.dilation, tap, first.stride, positions, strict=True)
        )
        taps = _tap(first, tap).reshape(-1, *(1,) * len(lengths))
        padded[(slice(None), slice(None), *window)] += weight * taps
    inside = tuple(slice(s, s + n) for s, n in zip(starts, lengths, strict=True))
    whole = padded[(slice(None), slice(None), *inside)]
    return replace(second, inputs=first.inputs, weight=whole.reshape(outputs, -1))


def _reach(conv: Conv, axis: int) -> int:
    """Length of the input under the kernel."""
    return conv.dilation[axis] * (conv.kernel[axis] - 1) + 1


def _tap(conv: Conv, place: tuple[int, ...]) -> Array:
    """The weight of each channel at one position of the kernel, [C]."""
    index: Any = (slice(None), 0, *place)
    weights: Array = conv.weight[index].astype(np.int64)
    return weights


def _taps(kernel: Shape) -> itertools.product[tuple[int, ...]]:
    return itertools.product(*map(range, kernel))
