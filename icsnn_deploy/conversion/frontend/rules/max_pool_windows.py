"""Windows of a max pooling, and the order of pairwise maxima that needs the fewest neurons.

The maximum of two values needs one neuron. A window can be reduced at once, or axis after axis, so
that the results of one axis serve several windows; and a window of k elements is the union of two
shorter windows, which overlapping windows may share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from icsnn_deploy.graph.nodes import Shape


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of `kernel` elements, `dilation` apart, on the axes of x."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    before: Shape  # padding
    positions: Shape

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


def cheapest(pool: Windows, lengths: Shape) -> list[Windows]:
    """The sequence of steps that needs the fewest neurons.

    Args:
        pool: the windows.
        lengths: spatial shape of what is pooled.
    """
    ways = [_one_by_one(pool, lengths, order) for order in _orders(len(lengths))] + [[pool]]
    return min(ways, key=lambda way: sum(neurons(step) for step in way))


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

    def at(value: int, others: Shape) -> Shape:
        return tuple(value if i == axis else other for i, other in enumerate(others))

    half = Windows(
        kernel=at(kernel - apart, ones),
        stride=pool.stride,
        dilation=pool.dilation,
        before=pool.before,
        positions=tuple(counts),
    )
    pair = Windows(
        kernel=at(2, ones),
        stride=ones,
        dilation=at(shift, ones),
        before=(0,) * len(counts),
        positions=pool.positions,
    )
    separate = (kernel - 1) * math.prod(pool.positions)
    return (half, pair) if neurons(half) + math.prod(pool.positions) < separate else None
