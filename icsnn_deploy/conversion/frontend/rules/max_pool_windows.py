"""Windows of a max pooling, and the order of pairwise maxima that needs the fewest neurons.

The maximum of two values needs one neuron. A window can be reduced at once, or axis after axis, so
that the results of one axis serve several windows; and a window of k elements is the union of two
shorter windows, which overlapping windows may share. Long windows without common elements, such as
those of a global pooling, are reduced by several poolings in a row over two elements each: about
log2(k) populations, not k - 1, of the same number of neurons together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.graph.nodes import Pairs, Shape


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of `kernel` elements, `dilation` apart, on the axes of x."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    before: Shape  # padding
    positions: Shape

    def with_axis(self, place: int) -> Windows:
        """The same windows with one more axis, of length 1, at `place`."""

        def grown(values: Shape, one: int) -> Shape:
            return (*values[:place], one, *values[place:])

        return Windows(
            kernel=grown(self.kernel, 1),
            stride=grown(self.stride, 1),
            dilation=grown(self.dilation, 1),
            before=grown(self.before, 0),
            positions=grown(self.positions, 1),
        )

    def along(self, axis: int, lengths: Shape) -> Windows:
        """The windows along one axis; on the other axis each element is a window."""

        def only(values: Shape, others: Shape) -> Shape:
            return tuple(
                v if i == axis else o for i, (v, o) in enumerate(zip(values, others, strict=True))
            )

        ones, zeros = (1,) * len(lengths), (0,) * len(lengths)
        return Windows(
            kernel=only(self.kernel, ones),
            stride=only(self.stride, ones),
            dilation=only(self.dilation, ones),
            before=only(self.before, zeros),
            positions=only(self.positions, lengths),
        )

    def padded(self, pads: Pairs, lengths: Shape) -> Windows | None:
        """The same windows on an image without the pads that it has; None if one holds pads alone.

        Args:
            pads: before and after, per axis.
            lengths: of the image without them.
        """
        before = tuple(b + first for b, (first, _) in zip(self.before, pads, strict=True))
        for axis, length in enumerate(lengths):
            begin = self.stride[axis] * np.arange(self.positions[axis]) - before[axis]
            taps = begin[:, None] + self.dilation[axis] * np.arange(self.kernel[axis])
            if not ((taps >= 0) & (taps < length)).any(axis=1).all():
                return None
        return replace(self, before=before)


def without_infinite_border(elements: Elements) -> tuple[Elements, Pairs]:
    """The elements [C, *G] without rows and columns of -inf around them, and how many those were.

    F.pad(x, ..., value=-inf) before a max pooling is what the padding of the pooling is.
    """
    axes = len(elements.shape) - 1
    constants = 0 if elements.constants is None else elements.constants
    held = (elements.ids != 0) | (constants != -np.inf)
    if held.all() or not held.any():
        return elements, ((0, 0),) * axes
    kept, pads = [slice(None)], []
    for axis in range(1, axes + 1):
        others = tuple(one for one in range(axes + 1) if one != axis)
        used = np.flatnonzero(held.any(axis=others))
        begin, end = int(used[0]), int(used[-1]) + 1
        kept.append(slice(begin, end))
        pads.append((begin, elements.shape[axis] - end))
    return elements.map(lambda array: array[tuple(kept)]), tuple(pads)


def cheapest(pool: Windows, lengths: Shape) -> list[Windows]:
    """The sequence of steps that needs the fewest neurons.

    Args:
        pool: the windows.
        lengths: spatial shape of what is pooled.
    """
    ways = [_one_by_one(pool, lengths, order) for order in _orders(len(lengths))] + [[pool]]
    return min(ways, key=lambda way: sum(neurons(step) for step in way))


SMALL = 5
"""Length up to which a window without neighbors is one tree, of a population per pair."""


def in_pairs(pool: Windows, lengths: Shape, *, nonnegative: bool) -> list[Windows]:
    """A pooling as several in a row over two or three elements each, where its windows are long.

        16 elements a window -> 8 -> 4 -> 2 -> 1         of any odd number one is left over:
        15 elements a window -> 8 -> 4 -> 2 -> 1         a zero is its partner, if that is no larger
        15 elements a window -> 7 -> 3 -> 1              otherwise windows of three share elements

    Args:
        pool: windows along one axis; others are returned as they are.
        lengths: spatial shape of what is pooled.
        nonnegative: whether no value is negative, so that zeros may be padded.
    """
    axes = [axis for axis, size in enumerate(pool.kernel) if size > 1]
    if len(axes) != 1 or shared(pool) is not None:
        return [pool]
    (axis,) = axes
    length, count = pool.kernel[axis], pool.positions[axis]
    alone = count == 1
    at_end = length - pool.before[axis] >= lengths[axis]  # nothing but zeros after the window
    if length <= SMALL or pool.dilation[axis] != 1 or not (alone or pool.stride[axis] == length):
        return [pool]
    steps = []
    before = pool.before
    while length > 1:
        size, stride, length = _next(length, alone=alone, padded=nonnegative and at_end)
        positions = _at(axis, count * length, pool.positions)
        ones = (1,) * len(positions)
        steps.append(
            Windows(
                kernel=_at(axis, size, ones),
                stride=_at(axis, stride, ones),
                dilation=ones,
                before=before,
                positions=positions,
            )
        )
        before, at_end = (0,) * len(positions), True
    return steps


def _next(length: int, *, alone: bool, padded: bool) -> tuple[int, int, int]:
    """Size and stride of the next windows, and the length that they leave.

    Args:
        length: of the window.
        alone: whether there is only one window.
        padded: whether a zero may be added at its end.
    """
    if length % 2 == 0:
        return 2, 2, length // 2
    if length == 3 or not alone:
        size = next(n for n in range(3, length + 1, 2) if length % n == 0)
        return size, size, length // size
    return (2, 2, (length + 1) // 2) if padded else (3, 2, (length - 1) // 2)


def _at(axis: int, value: int, others: Shape) -> Shape:
    """The values of `others`, with another one for an axis."""
    return tuple(value if i == axis else other for i, other in enumerate(others))


def _orders(axes: int) -> tuple[tuple[int, ...], ...]:
    return ((1, 0), (0, 1)) if axes == 2 else ((0,),)


def _one_by_one(pool: Windows, lengths: Shape, order: tuple[int, ...]) -> list[Windows]:
    """The same pooling axis after axis."""
    steps = []
    for axis in order:
        step = pool.along(axis, lengths)
        steps.append(step)
        lengths = step.positions
    return steps


def neurons(pool: Windows) -> int:
    """Neurons per channel."""
    halves = shared(pool)
    if halves is None:
        return (math.prod(pool.kernel) - 1) * math.prod(pool.positions)
    return neurons(halves[0]) + math.prod(pool.positions)


def shared(pool: Windows) -> tuple[Windows, Windows] | None:
    """Shorter windows and pairs of them whose unions are the windows, if that needs fewer neurons.

    A window of k elements is the union of two windows of h elements that are k - h elements apart.
    If that distance is a whole number of strides, neighboring windows share them.
    """
    axes = [axis for axis, size in enumerate(pool.kernel) if size > 1]
    if len(axes) != 1:
        return None
    (axis,) = axes
    kernel, stride, dilation = pool.kernel[axis], pool.stride[axis], pool.dilation[axis]
    step = stride // math.gcd(stride, dilation)  # elements between windows that can be shared
    apart = kernel // 2 // step * step
    if apart == 0 or kernel - apart < 2:
        return None
    shift = apart * dilation // stride
    counts = list(pool.positions)
    counts[axis] += shift
    ones = (1,) * len(counts)
    half = Windows(
        kernel=_at(axis, kernel - apart, ones),
        stride=pool.stride,
        dilation=pool.dilation,
        before=pool.before,
        positions=tuple(counts),
    )
    pair = Windows(
        kernel=_at(axis, 2, ones),
        stride=ones,
        dilation=_at(axis, shift, ones),
        before=(0,) * len(counts),
        positions=pool.positions,
    )
    separate = (kernel - 1) * math.prod(pool.positions)
    return (half, pair) if neurons(half) + math.prod(pool.positions) < separate else None
