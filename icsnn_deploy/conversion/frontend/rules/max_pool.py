r"""Exact max pooling from rectifiers: max(a, b) = a + relu(b - a).

    x --- picks the first element of each window ------------------ + --> max
      \-- difference (depthwise, +1 and -1) --> relu (excess) -----/

Windows of several elements are trees of such pairs; each population reads the pooled values and the
populations before it. The trees are built axis after axis, or over the whole window at once, and
overlapping windows share common parts, whichever needs fewer neurons. Long windows are reduced by
several poolings in a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Result, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather import gather
from icsnn_deploy.conversion.frontend.images import lifted
from icsnn_deploy.conversion.frontend.kernels import replace_value
from icsnn_deploy.conversion.frontend.nonnegative import is_nonnegative
from icsnn_deploy.conversion.frontend.rules.affine import neg, spread
from icsnn_deploy.conversion.frontend.rules.largest import largest_of
from icsnn_deploy.conversion.frontend.rules.max_pool_windows import (
    Windows,
    cheapest,
    in_pairs,
    shared,
    without_infinite_border,
)
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Relu, Shape
from icsnn_deploy.passes.affine import pure_scale
from icsnn_deploy.passes.window import windows


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A partial maximum: one element of the window plus the excesses over it."""

    tap: Shape  # offset of the element, relative to stride * position
    excesses: tuple[str, ...] = ()


def max_pool(
    context: CallContext,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    axes: int,
) -> Result:
    """max_pool1d and max_pool2d."""
    if return_indices:
        raise context.unsupported("return_indices=True", "values alone", "Pool without indices.")
    shape = context.source_shape(x)
    if len(shape) != axes + 1:
        raise context.unsupported(f"an input of shape {shape}", f"channels and {axes} spatial axes")
    kernel = spread(kernel_size, axes)
    windows_of_x = Windows(
        kernel=kernel,
        stride=kernel if stride is None or stride == [] else spread(stride, axes),
        dilation=spread(dilation, axes),
        before=spread(padding, axes),
        positions=context.shape[2:],  # as PyTorch rounded it, up with ceil_mode
    )
    data, builder = context.traced(x), context.builder
    if isinstance(data.value, Elements):
        data, windows_of_x = _without_border(context, data, data.value, windows_of_x)
    axis = None if isinstance(data.value, str) else lifted(builder, data.value)
    if axis is None:
        return _pooled(context, context.source(data), windows_of_x)
    source = gather(builder, context.elements(data).with_axis(axis), data.origin)
    result = _pooled(context, source, windows_of_x.with_axis(axis - 1))
    return builder.numbering.elements(result).without_axis(axis)


def _without_border(
    context: CallContext, x: Traced, elements: Elements, pool: Windows
) -> tuple[Traced, Windows]:
    """Make a border of -inf the padding of the windows."""
    inside, pads = without_infinite_border(elements)
    if inside.shape == elements.shape:
        return x, pool
    windows_inside = pool.padded(pads, inside.shape[1:])
    if windows_inside is None:
        raise context.unsupported(
            "windows that hold padding of -inf alone",
            "windows with at least one value inside the input",
            "Pad by less than a window.",
        )
    return replace_value(x, inside, (x.shape[0], *inside.shape)), windows_inside


def adaptive_max_pool(
    context: CallContext, x: Any, output_size: Any, return_indices: bool = False, *, axes: int
) -> Result:
    """adaptive_max_pool1d and 2d, for any output size."""
    lengths, wanted = context.source_shape(x)[1:], context.shape[2:]
    if any(length % out for length, out in zip(lengths, wanted, strict=True)):
        if return_indices:
            raise context.unsupported(
                "return_indices=True", "values alone", "Pool without indices."
            )
        return _uneven(context, x)
    kernel = tuple(length // out for length, out in zip(lengths, wanted, strict=True))
    return max_pool(context, x, kernel, return_indices=return_indices, axes=axes)


def largest_in_space(
    context: CallContext, x: Traced, axes: Sequence[int], sign: int = 1
) -> Elements:
    """The maximum over whole spatial axes, which keep length 1; the minimum with sign -1.

    Args:
        context: the call.
        x: [B, C, *G].
        axes: spatial axes, from 0.
        sign: 1 or -1.
    """
    lengths = x.shape[2:]
    kernel = tuple(n if axis in axes else 1 for axis, n in enumerate(lengths))
    wanted = tuple(1 if axis in axes else n for axis, n in enumerate(lengths))
    value = x.value if sign > 0 else neg(context.on(x.shape), x)
    data = replace_value(x, value, x.shape)
    inner = context.on((*x.shape[:2], *wanted))
    found = max_pool(inner, data, kernel, axes=len(lengths))
    if sign < 0:
        size = (*x.shape[:2], *wanted)
        found = neg(context.on(size), replace_value(x, found, size))
    numbering = context.builder.numbering
    return numbering.elements_of(found)


def _uneven(context: CallContext, x: Any) -> Result:
    """Windows of several sizes; one that is shorter than the longest repeats its last value."""
    elements, places = context.elements(x), []
    for length, count in zip(elements.shape[1:], context.shape[2:], strict=True):
        begin = np.arange(count) * length // count
        end = -(-np.arange(1, count + 1) * length // count)
        taps = np.arange((end - begin).max())[:, None]
        places.append(np.minimum(begin + taps, end - 1))
    return _largest_at(context, elements, places)


def _largest_at(context: CallContext, elements: Elements, places: Sequence[Array]) -> Result:
    """The largest of the values at each place of the windows, one place after another.

    Args:
        context: the call.
        elements: [C, *G].
        places: per axis int64 [places of a window, windows], along that axis.
    """
    terms = []
    for taps in np.ndindex(*(len(axis) for axis in places)):
        term = elements
        for axis, (tap, along) in enumerate(zip(taps, places, strict=True)):
            term = term.taken(along[tap], axis + 1)
        terms.append(term)
    return largest_of(context, terms)


def _pooled(context: CallContext, source: str, pool: Windows) -> str:
    shape = context.builder.shapes[source]
    rectified = []
    nonnegative = is_nonnegative(context.builder.nodes, source, context.builder.functions)
    if _sees_padding(pool, shape[1:]) and not nonnegative:
        if not context.rectified:
            if any(d != 1 for d, k in zip(pool.dilation, pool.kernel, strict=True) if k > 1):
                return _dilated(context, source, pool)
            return _pooled(context, *_repeating_borders(context, source, pool))
        # relu(max(x)) = max(relu(x)), and zeros are a valid padding of nonnegative values
        source = context.add(Relu(name=context.name("relu"), inputs=(source,)))
        rectified.append(source)
        nonnegative = True
    tree = _Tree(context)
    steps, lengths = [], shape[1:]
    for line in cheapest(pool, lengths):
        steps += in_pairs(line, lengths, nonnegative=nonnegative)
        lengths = line.positions
    for step in steps[:-1]:
        source = tree.pool(source, step, context.name("line"))
    source = tree.pool(source, steps[-1], context.name())
    rectifiers = (*rectified, *tree.excesses)
    if rectifiers:  # a window of one element needs none, and may be its own source
        context.builder.max_pools[source] = rectifiers
    return source


def _dilated(context: CallContext, source: str, pool: Windows) -> str:
    """Dilated windows of which places beyond the border repeat the nearest place inside."""
    places = []
    lengths = context.builder.shapes[source][1:]
    for length, kernel, stride, dilation, before, count in zip(
        lengths, pool.kernel, pool.stride, pool.dilation, pool.before, pool.positions, strict=True
    ):
        begin = stride * np.arange(count) - before
        first, last = -(begin // dilation), (length - 1 - begin) // dilation
        if (first > last).any():
            raise context.unsupported(
                "windows that hold no value", "windows with at least one value inside the input"
            )
        taps = np.arange(kernel)[:, None]
        places.append(begin + dilation * np.clip(taps, first, last))
    found = _largest_at(context, context.builder.numbering.elements(source), places)
    return found if isinstance(found, str) else gather(context.builder, found, context.path)


def _repeating_borders(context: CallContext, source: str, pool: Windows) -> tuple[str, Windows]:
    """The source with its border values repeated, and windows that need no padding.

    A window that reaches beyond the border holds the border itself, so that its maximum is the
    same.
    """
    numbering = context.builder.numbering
    lengths = context.builder.shapes[source][1:]
    widths = [(0, 0)] + [
        (b, max(0, s * (n - 1) + k - b - length))
        for s, n, k, b, length in zip(
            pool.stride, pool.positions, pool.kernel, pool.before, lengths, strict=True
        )
    ]
    repeated = numbering.elements(source).map(lambda ids: np.pad(ids, widths, mode="edge"))
    name = f"{context.path}.border"
    return gather(context.builder, repeated, name), replace(pool, before=(0,) * len(lengths))


def _sees_padding(pool: Windows, lengths: Shape) -> bool:
    reached = (
        s * (n - 1) + d * (k - 1) - b
        for s, n, d, k, b in zip(
            pool.stride, pool.positions, pool.dilation, pool.kernel, pool.before, strict=True
        )
    )
    beyond = any(last >= length for last, length in zip(reached, lengths, strict=True))
    return any(pool.before) or beyond


class _Tree:
    """Adds the nodes of one max pooling."""

    def __init__(self, context: CallContext) -> None:
        self.context = context
        self.excesses: list[str] = []

    def pool(self, source: str, pool: Windows, name: str) -> str:
        """The maximum over each window of a node's result; `name` is the name of the last node."""
        if math.prod(pool.kernel) == 1 and pool.positions == self._lengths(source):
            return source
        halves = shared(pool)
        if halves is not None:
            shorter = self.pool(source, halves[0], self.context.name("shared"))
            return self.pool(shorter, halves[1], name)
        taps = [
            tuple(i * d - b for i, d, b in zip(tap, pool.dilation, pool.before, strict=True))
            for tap in np.ndindex(*pool.kernel)
        ]
        # Preferred is the element with which a window after the last one would lie outside x: a
        # padded convolution can then read x directly.
        axes = zip(self._lengths(source), pool.stride, pool.positions, strict=True)
        best = tuple(max(0, length - stride * count) for length, stride, count in axes)
        taps.sort(key=lambda tap: tap != best)
        found = self._larger(source, pool, [_Form(tap=tap) for tap in taps])
        if not found.excesses:
            return self._read(source, pool, {found.tap: 1}, name)
        picked = self._read(source, pool, {found.tap: 1}, self.context.name("pick"))
        return self.context.add(Add(name=name, inputs=(picked, *found.excesses)))

    def _lengths(self, source: str) -> Shape:
        return self.context.builder.shapes[source][1:]

    def _larger(self, source: str, pool: Windows, forms: Sequence[_Form]) -> _Form:
        """The maximum of partial maxima; it keeps the element of the first one."""
        if len(forms) == 1:
            return forms[0]
        half = (len(forms) + 1) // 2
        left = self._larger(source, pool, forms[:half])
        right = self._larger(source, pool, forms[half:])
        taps = {right.tap: 1, left.tap: -1}
        current = [self._read(source, pool, taps, self.context.name("difference"))]
        current += right.excesses
        current += [self._negative(name) for name in left.excesses]
        if len(current) > 1:
            current = [self.context.add(Add(name=self.context.name("gap"), inputs=tuple(current)))]
        excess = Relu(name=self.context.name("excess"), inputs=tuple(current))
        self.excesses.append(self.context.add(excess))
        return _Form(tap=left.tap, excesses=(*left.excesses, excess.name))

    def _negative(self, source: str) -> str:
        minus = np.full((1,) * len(self.context.builder.shapes[source]), -1, np.float32)
        return self.context.add(pure_scale(self.context.name("negative"), source, minus))

    def _read(self, source: str, pool: Windows, taps: dict[Shape, int], name: str) -> str:
        """A depthwise convolution with the given weights at the given offsets."""
        shape = self.context.builder.shapes[source]
        ends = [(min(axis), max(axis)) for axis in zip(*taps, strict=True)]
        found = windows(
            tuple(range(low, high + 1) for low, high in ends),
            stride=pool.stride,
            lengths=shape[1:],
            positions=pool.positions,
        )
        if found is None:
            raise self.context.unsupported(
                f"windows {pool.kernel} at stride {pool.stride} on {shape[1:]}",
                "windows that begin inside the padded input",
            )
        kernel = np.zeros([one.size for one in found], np.float32)
        for tap, weight in taps.items():
            place = (t - low + one.first for t, (low, _), one in zip(tap, ends, found, strict=True))
            kernel[tuple(place)] = weight
        return self.context.add(
            Conv(
                name=name,
                inputs=(source,),
                weight=np.repeat(kernel[None, None], shape[0], axis=0),
                bias=np.zeros(shape[0], np.float32),
                stride=pool.stride,
                padding=tuple(one.padding for one in found),
                dilation=(1,) * len(found),
                groups=shape[0],
            )
        )


LOWERINGS: dict[str, Lowering] = {
    f"{name}{axes}d{indices}": partial(rule, axes=axes)
    for name, rule in (("max_pool", max_pool), ("adaptive_max_pool", adaptive_max_pool))
    for axes in (1, 2)
    for indices in ("", "_with_indices")
}
