"""Apply a convolution to rearranged elements: on the nodes that they come from, in phase layout."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Builder, Result, Storage, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather import gather
from icsnn_deploy.conversion.frontend.images import (
    ReadChannels,
    all_channels,
    choose_phases,
    is_regular,
    lifted,
    parts_of,
)
from icsnn_deploy.conversion.frontend.phases import (
    Taps,
    convolution_taps,
    from_phases,
    most_phases,
    phase_conv,
    to_phases,
    transposed_taps,
    without_outer_taps,
)
from icsnn_deploy.conversion.frontend.selecting import check_weights
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Pairs, Shape
from icsnn_deploy.passes.convolutions import dense_weight


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """The parameters of a convolution, [O, I / groups, *kernel] also where it is transposed."""

    weight: Array
    bias: Array
    stride: Shape
    padding: Pairs
    dilation: Shape
    groups: int
    transposed: bool = False

    @classmethod
    def at_each_position(cls, matrix: Array, bias: Array, axes: int) -> Kernel:
        """One that mixes the channels of each position: a matrix [O, I]."""
        return cls(
            weight=matrix.reshape(*matrix.shape, *(1,) * axes),
            bias=bias,
            stride=(1,) * axes,
            padding=((0, 0),) * axes,
            dilation=(1,) * axes,
            groups=1,
        )

    @classmethod
    def window_mean(cls, channels: int, size: Shape, stride: Shape, padding: Shape) -> Kernel:
        """One that takes the mean over windows of each channel, padded alike at both ends."""
        return cls(
            weight=np.full((channels, 1, *size), 1 / math.prod(size), np.float32),
            bias=np.zeros(channels, np.float32),
            stride=stride,
            padding=tuple((p, p) for p in padding),
            dilation=(1,) * len(size),
            groups=channels,
        )

    def taps(self, phases: Shape) -> tuple[Taps, ...]:
        """What it reads along each axis."""
        make = transposed_taps if self.transposed else convolution_taps
        return tuple(
            make(size, stride, before, dilation, r)
            for size, stride, (before, _), dilation, r in zip(
                self.weight.shape[2:], self.stride, self.padding, self.dilation, phases, strict=True
            )
        )

    def with_axis(self, axis: int) -> Kernel:
        """The same with one more spatial axis, of length 1, before the one at `axis` of images."""
        place = axis - 1

        def grown(values: Any, one: Any) -> Any:
            return (*values[:place], one, *values[place:])

        return replace(
            self,
            weight=np.expand_dims(self.weight, axis + 1),
            stride=grown(self.stride, 1),
            padding=grown(self.padding, (0, 0)),
            dilation=grown(self.dilation, 1),
        )


def convolve(context: CallContext, x: Traced, kernel: Kernel) -> Result:
    """A convolution of rearranged elements."""
    lengths = tuple(context.shape[2:])
    if isinstance(x.value, str) and not kernel.transposed:
        return context.add(_plain(context, x.value, kernel))
    elements = context.elements(x)
    axis = lifted(context.builder, elements)
    if axis is not None:
        elements = elements.with_axis(axis)
        kernel = kernel.with_axis(axis)
        lengths = (*lengths[: axis - 1], 1, *lengths[axis - 1 :])
    result = _convolved(context, elements, kernel, lengths, x.origin)
    if axis is None:
        return result
    return context.builder.numbering.elements_of(result).without_axis(axis)


def _convolved(
    context: CallContext, elements: Elements, kernel: Kernel, lengths: Shape, origin: str
) -> Result:
    builder = context.builder
    if not kernel.transposed:
        elements, kernel = _without_zero_border(elements, kernel)
        whole = builder.numbering.whole(elements)
        if whole is not None and builder.shapes[whole] == elements.shape:
            return context.add(_plain(context, whole, kernel))
    phases = choose_phases(builder, elements, kernel.weight.size, len(kernel.weight))
    read = to_phases(elements, phases)
    plain = not kernel.transposed and all(r == 1 for r in phases)
    if plain and kernel.groups > 1:
        per_channel = _depthwise(context, read, kernel)
        if per_channel is not None:
            return per_channel
    parts = parts_of(builder, read, origin)
    if kernel.groups > 1 and not _is_one_node(builder, parts, read):
        node = gather(builder, read, origin)
        every = np.arange(len(read.ids))
        parts = [ReadChannels(node=node, read=every, channels=every)]
    taps = kernel.taps(phases)
    if plain:
        made = _plain(context, parts[0].node, kernel)
    else:
        made = phase_conv(
            builder,
            parts[0].node,
            kernel.weight,
            kernel.bias,
            taps,
            lengths,
            groups=kernel.groups,
            name=context.name(),
        )
    if math.prod(phases) > most_phases(len(elements.ids)):  # channels that were taken for places
        made = without_outer_taps(made, builder.shapes[parts[0].node][1:])
    result = _on_parts(context, made, parts, read)
    out = tuple(one.phases_out for one in taps)
    if builder.shapes[result][1:] == lengths and all(r == 1 for r in out):
        return result
    return from_phases(builder.numbering.elements(result), out, lengths)


def _plain(context: CallContext, source: str, kernel: Kernel) -> Conv:
    return Conv(
        name=context.name(),
        inputs=(source,),
        weight=kernel.weight,
        bias=kernel.bias,
        stride=kernel.stride,
        padding=kernel.padding,
        dilation=kernel.dilation,
        groups=kernel.groups,
    )


def _is_one_node(builder: Builder, parts: list[ReadChannels], read: Elements) -> bool:
    """Whether the elements are one node as it is."""
    count = len(read.ids)
    return (
        len(parts) == 1
        and builder.shapes[parts[0].node][0] == count
        and np.array_equal(parts[0].read, np.arange(count))
        and np.array_equal(parts[0].channels, np.arange(count))
    )


def _on_parts(context: CallContext, made: Conv, parts: list[ReadChannels], read: Elements) -> str:
    """The convolution applied to each node that it reads, added up; the bias added once."""
    if _is_one_node(context.builder, parts, read):
        return context.add(made)
    weight = dense_weight(made) if made.groups > 1 else made.weight
    results: list[str] = []
    for part in parts:
        channels = context.builder.shapes[part.node][0]
        check_weights(made.name, len(weight), channels, *made.kernel)
        own = np.zeros((len(weight), channels, *made.kernel), np.float64)
        for chosen in without_repeats(part.channels):
            own[:, part.channels[chosen]] += weight[:, part.read[chosen]]
        first = not results
        results.append(
            context.add(
                replace(
                    made,
                    name=made.name if first else context.name(),
                    inputs=(part.node,),
                    weight=own,
                    bias=made.bias if first else np.zeros_like(made.bias),
                    groups=1,
                )
            )
        )
    return added_up(context, results)


def _depthwise(context: CallContext, read: Elements, kernel: Kernel) -> Result | None:
    """A depthwise convolution on each node of the elements; None if it needs them as one node."""
    count, builder = len(read.ids), context.builder
    parts = all_channels(builder, read) if kernel.groups == count else None
    if not parts or any(len(part.channels) != builder.shapes[part.node][0] for part in parts):
        return None
    multiplier = len(kernel.weight) // count
    ids: Array | None = None
    for part in parts:
        order = part.read[np.argsort(part.channels)]  # read channel of each channel of the node
        rows = (order[:, None] * multiplier + np.arange(multiplier)).reshape(-1)
        own = replace(kernel, weight=kernel.weight[rows], bias=kernel.bias[rows], groups=len(order))
        made = builder.numbering.elements(context.add(_plain(context, part.node, own))).ids
        if ids is None:
            ids = np.zeros((len(kernel.weight), *made.shape[1:]), np.int64)
        ids[rows] = made
    return None if ids is None else Elements(ids)


def _without_zero_border(elements: Elements, kernel: Kernel) -> tuple[Elements, Kernel]:
    """Move zero padding of the elements into the padding of the convolution."""
    if elements.constants is not None:
        return elements, kernel
    kept, padding = [slice(None)], []
    for axis, (before, after) in enumerate(kernel.padding):
        others = tuple(a for a in range(elements.ids.ndim) if a != axis + 1)
        used = np.flatnonzero(elements.ids.any(axis=others))
        if not len(used):
            return elements, kernel
        begin, end = int(used[0]), int(used[-1]) + 1
        kept.append(slice(begin, end))
        padding.append((before + begin, after + elements.shape[axis + 1] - end))
    trimmed = elements.map(lambda array: array[tuple(kept)])
    return trimmed, replace(kernel, padding=tuple(padding))


def mix_channels(
    context: CallContext, x: Traced, image: Elements, matrix: Array, bias: Array
) -> Elements | None:
    """A matrix applied at each position of an image; None where no convolution reads it so.

    Args:
        context: the call.
        x: the tensor whose values the image holds.
        image: [I, *G].
        matrix: [O, I].
        bias: [O].
    """
    builder, (_, *grid) = context.builder, image.shape
    phases = choose_phases(builder, image, matrix.size)
    if not is_regular(builder, to_phases(image, phases)):
        return None
    inner = context.on((context.shape[0], len(matrix), *grid))
    data = replace_value(x, image, (x.shape[0], *image.shape))
    kernel = Kernel.at_each_position(matrix, bias, len(grid))
    return builder.numbering.elements_of(convolve(inner, data, kernel))


def added_up(context: CallContext, names: list[str]) -> str:
    """The sum of a layer's parts; the part itself where there is one."""
    if len(names) == 1:
        return names[0]
    return context.add(Add(name=context.name("sum"), inputs=tuple(names)))


def replace_value(x: Traced, value: Result, shape: Shape) -> Traced:
    """A traced tensor of another value, apart from x in memory."""
    return Traced(value, shape, x.dtype, x.origin, Storage())


def columns_of(
    context: CallContext, matrix: Array, mask: Array, places: Array, length: int
) -> Array:
    """The matrix for a source of `length` values, of which the masked columns read `places`."""
    if len(places) == length and np.array_equal(places, np.arange(length)):
        return matrix[:, mask]
    check_weights(context.path, len(matrix), length)
    own = np.zeros((len(matrix), length))
    columns = matrix[:, mask]
    for chosen in without_repeats(places):
        own[:, places[chosen]] += columns[:, chosen]
    return own


def without_repeats(places: Array) -> Iterator[Array]:
    """Indices of the places, in groups in which each place occurs once."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    new = np.flatnonzero(np.diff(ordered, prepend=-1))
    rank = np.arange(len(ordered)) - np.repeat(new, np.diff([*new, len(ordered)]))
    for number in range(int(rank.max(initial=-1)) + 1):
        yield order[rank == number]
