"""Convolutions, transposed convolutions and fully connected layers, on any arrangement of data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icsnn_deploy.conversion.frontend.builder import (
    CallContext,
    Lowering,
    Result,
    Traced,
    Unsupported,
)
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather import flatten, gather
from icsnn_deploy.conversion.frontend.images import (
    Part,
    choose_phases,
    is_regular,
    lifted,
    parts_of,
)
from icsnn_deploy.conversion.frontend.phases import (
    Taps,
    convolution_taps,
    from_phases,
    phase_conv,
    to_phases,
    transposed_taps,
)
from icsnn_deploy.conversion.frontend.rules.affine import bias_of, constant, spread
from icsnn_deploy.conversion.frontend.rules.move import pad
from icsnn_deploy.conversion.frontend.selecting import check_weights
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Linear, Pairs, Shape
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


def conv(
    context: CallContext,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Result:
    """Conv1d and Conv2d; zero padding before it becomes part of the convolution."""
    kernels = constant(context, weight)
    axes = kernels.ndim - 2
    _check_axes(context, x, axes, most=3)
    holes = spread(dilation, axes)
    pads = _conv_padding(padding, kernels.shape[2:], holes)
    if padding_mode != "zeros":
        ends = [n for pair in reversed(pads) for n in pair]
        inner = context.on(context.shape)
        padded = pad(inner, x, ends, mode=padding_mode)
        size = (*x.shape[:2], *(n + sum(p) for n, p in zip(x.shape[2:], pads, strict=True)))
        x = replace_value(x, padded, size)
        pads = ((0, 0),) * axes
    kernel = Kernel(
        weight=kernels,
        bias=bias_of(context, bias, len(kernels)),
        stride=spread(stride, axes),
        padding=pads,
        dilation=holes,
        groups=groups,
    )
    if axes == 3:
        from icsnn_deploy.conversion.frontend.rules.volume import convolve_volume

        return convolve_volume(context, x, kernel)
    return convolve(context, x, kernel)


def conv_transpose(
    context: CallContext,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Result:
    """ConvTranspose1d and ConvTranspose2d, in phase layout: a plain convolution on x."""
    kernels = constant(context, weight)  # [I, O / groups, *kernel]
    axes = kernels.ndim - 2
    _check_axes(context, x, axes)
    inputs, outputs = kernels.shape[:2]
    grouped = kernels.reshape(groups, inputs // groups, outputs, *kernels.shape[2:])
    swapped = grouped.swapaxes(1, 2).reshape(groups * outputs, inputs // groups, *kernels.shape[2:])
    kernel = Kernel(
        weight=swapped,
        bias=bias_of(context, bias, len(swapped)),
        stride=spread(stride, axes),
        padding=tuple((p, p) for p in spread(padding, axes)),
        dilation=spread(dilation, axes),
        groups=groups,
        transposed=True,
    )
    return convolve(context, x, kernel)


def convolution(
    context: CallContext,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Result:
    """aten.convolution: any convolution of a decomposed exported program."""
    if transposed:
        return conv_transpose(
            context, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return conv(context, x, weight, bias, stride, padding, dilation, groups)


def convolve(context: CallContext, x: Traced, kernel: Kernel) -> Result:
    """A convolution of rearranged elements."""
    lengths = tuple(context.shape[2:])
    if isinstance(x.value, str) and not kernel.transposed:
        return context.add(_plain(context, x.value, kernel))
    elements = context.elements(x)
    axis = lifted(context.builder, elements)
    if axis is not None:
        elements = elements.map(lambda array: np.expand_dims(array, axis))
        kernel = kernel.with_axis(axis)
        lengths = (*lengths[: axis - 1], 1, *lengths[axis - 1 :])
    result = _convolved(context, elements, kernel, lengths, x.origin)
    if axis is None:
        return result
    found = context.builder.numbering.elements(result) if isinstance(result, str) else result
    return found.map(lambda array: np.squeeze(array, axis))


def _convolved(
    context: CallContext, elements: Elements, kernel: Kernel, lengths: Shape, origin: str
) -> Result:
    builder = context.builder
    if not kernel.transposed:
        elements, kernel = _without_zero_border(elements, kernel)
        whole = builder.numbering.whole(elements)
        if whole is not None and builder.shapes[whole] == elements.shape:
            return context.add(_plain(context, whole, kernel))
    phases = choose_phases(builder, elements)
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
        parts = [Part(node=node, read=every, channels=every)]
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


def _is_one_node(builder: Any, parts: list[Part], read: Elements) -> bool:
    """Whether the elements are one node as it is."""
    count = len(read.ids)
    return (
        len(parts) == 1
        and builder.shapes[parts[0].node][0] == count
        and np.array_equal(parts[0].read, np.arange(count))
        and np.array_equal(parts[0].channels, np.arange(count))
    )


def _on_parts(context: CallContext, made: Conv, parts: list[Part], read: Elements) -> str:
    """The convolution applied to each node that it reads, added up; the bias added once."""
    if _is_one_node(context.builder, parts, read):
        return context.add(made)
    weight = dense_weight(made) if made.groups > 1 else made.weight
    results: list[str] = []
    for part in parts:
        channels = context.builder.shapes[part.node][0]
        check_weights(made.name, len(weight), channels, *made.kernel)
        own = np.zeros((len(weight), channels, *made.kernel), np.float64)
        for chosen in _without_repeats(part.channels):
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
    if len(results) == 1:
        return results[0]
    return context.add(Add(name=context.name("sum"), inputs=tuple(results)))


def _depthwise(context: CallContext, read: Elements, kernel: Kernel) -> Result | None:
    """A depthwise convolution on each node of the elements; None if it needs them as one node."""
    count = len(read.ids)
    if kernel.groups != count or read.constants is not None:
        return None
    builder = context.builder
    direct = [
        (node, mask)
        for node, mask in builder.numbering.sources(read.ids)
        if builder.shapes[node][1:] == read.shape[1:]
    ]
    planes = read.ids.reshape(count, -1)
    plane = planes.shape[1]
    if not (planes == planes[:, :1] + np.arange(plane)).all():
        return None
    multiplier = len(kernel.weight) // count
    plans = []
    for node, mask in direct:
        read_channels = np.flatnonzero(mask.reshape(count, -1)[:, 0])
        places = planes[read_channels, 0] - builder.numbering.first(node)
        channels = places // plane
        whole = len(channels) == builder.shapes[node][0] == len(set(channels.tolist()))
        if not whole or (places % plane).any():
            return None
        plans.append((node, read_channels, channels))
    if sum(len(read_channels) for _, read_channels, _ in plans) != count:
        return None
    ids = None
    for node, read_channels, channels in plans:
        order = read_channels[np.argsort(channels)]  # read channel of each channel of the node
        rows = (order[:, None] * multiplier + np.arange(multiplier)).reshape(-1)
        own = replace(
            kernel, weight=kernel.weight[rows], bias=kernel.bias[rows], groups=len(channels)
        )
        name = context.add(_plain(context, node, own))
        made = builder.numbering.elements(name).ids
        if ids is None:
            ids = np.zeros((len(kernel.weight), *made.shape[1:]), np.int64)
        ids[rows] = made
    assert ids is not None
    return Elements(ids)


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


def replace_value(x: Traced, value: Result, shape: Shape) -> Traced:
    """A traced tensor of another value, apart from x in memory."""
    from icsnn_deploy.conversion.frontend.builder import Storage

    return Traced(value, shape, x.dtype, x.origin, Storage())


def linear(context: CallContext, x: Any, weight: Any, bias: Any = None) -> Result:
    """y = x @ weight.T + bias, along the last axis."""
    matrix = constant(context, weight)
    added = bias_of(context, bias, len(matrix))
    shape = context.source_shape(x)
    if not shape:
        raise context.unsupported("an input without features", "[B, ..., features]")
    if len(shape) == 1:
        return _on_vector(context, x, matrix, added)
    return _on_positions(context, x, matrix, added)


def _on_vector(context: CallContext, x: Traced, matrix: Array, bias: Array) -> Result:
    """A fully connected layer that reads the nodes of a vector's elements."""
    if isinstance(x.value, str):
        return context.add(Linear(name=context.name(), inputs=(x.value,), weight=matrix, bias=bias))
    elements, builder = x.value, context.builder
    if builder.vectors_as_images:
        return _as_image(context, elements, matrix, bias)
    constants = elements.constants
    if constants is not None:
        bias = bias + matrix.astype(np.float64) @ np.where(elements.ids == 0, constants, 0)
    names: list[str] = []
    sources = list(builder.numbering.sources(elements.ids))
    if not sources:
        raise context.unsupported("an input of constants alone", "data")
    vectors = [flatten(builder, source, x.origin) for source, _ in sources]
    for (source, mask), vector in zip(sources, vectors, strict=True):
        (length,) = builder.shapes[vector]
        places = elements.ids[mask] - builder.numbering.first(source)
        own = _columns(context, matrix, mask, places, length)
        first = not names
        names.append(
            context.add(
                Linear(
                    name=context.name(),
                    inputs=(vector,),
                    weight=own,
                    bias=bias if first else np.zeros_like(bias),
                )
            )
        )
    if len(names) == 1:
        return names[0]
    return context.add(Add(name=context.name("sum"), inputs=tuple(names)))


def _columns(context: CallContext, matrix: Array, mask: Array, places: Array, length: int) -> Array:
    """The matrix for a source of `length` values, of which the masked columns read `places`."""
    if len(places) == length and np.array_equal(places, np.arange(length)):
        return matrix[:, mask]
    check_weights(context.path, len(matrix), length)
    own = np.zeros((len(matrix), length))
    columns = matrix[:, mask]
    for chosen in _without_repeats(places):
        own[:, places[chosen]] += columns[:, chosen]
    return own


def _without_repeats(places: Array) -> Iterator[Array]:
    """Indices of the places, in groups in which each place occurs once."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    new = np.flatnonzero(np.diff(ordered, prepend=-1))
    rank = np.arange(len(ordered)) - np.repeat(new, np.diff([*new, len(ordered)]))
    for number in range(int(rank.max(initial=-1)) + 1):
        yield order[rank == number]


def _as_image(context: CallContext, elements: Elements, matrix: Array, bias: Array) -> Result:
    """A fully connected layer as convolutions of the whole image, with a result [F, 1, 1]."""
    builder = context.builder
    if elements.constants is not None:
        bias = bias + matrix @ np.where(elements.ids == 0, elements.constants, 0)
    names: list[str] = []
    for source, mask in builder.numbering.sources(elements.ids):
        shape = builder.shapes[source]
        size = math.prod(shape)
        own = _columns(
            context, matrix, mask, elements.ids[mask] - builder.numbering.first(source), size
        )
        axes = len(shape) - 1
        if not axes:
            raise context.unsupported("a vector and images in one network", "one of them")
        names.append(
            context.add(
                Conv(
                    name=context.name(),
                    inputs=(source,),
                    weight=own.reshape(len(own), *shape),
                    bias=bias if not names else np.zeros_like(bias),
                    stride=(1,) * axes,
                    padding=((0, 0),) * axes,
                    dilation=(1,) * axes,
                )
            )
        )
    result = names[0]
    if len(names) > 1:
        result = context.add(Add(name=context.name("sum"), inputs=tuple(names)))
    return builder.numbering.elements(result).reshape(len(matrix))


def _on_positions(context: CallContext, x: Traced, matrix: Array, bias: Array) -> Result:
    """A fully connected layer at every position: a 1 x 1 convolution of the features."""
    builder = context.builder
    elements = context.elements(x).moveaxis(-1, 0)  # [F, *positions]
    positions = elements.shape[1:]
    for grid in _grids(context, elements):
        image = elements.reshape(len(elements.ids), *grid)
        axes = len(grid)
        phases = choose_phases(builder, image)
        if not is_regular(builder, to_phases(image, phases)):
            continue
        kernel = Kernel(
            weight=matrix.reshape(*matrix.shape, *(1,) * axes),
            bias=bias,
            stride=(1,) * axes,
            padding=((0, 0),) * axes,
            dilation=(1,) * axes,
            groups=1,
        )
        inner = context.on((context.shape[0], len(matrix), *grid))
        result = convolve(inner, replace_value(x, image, (x.shape[0], *image.shape)), kernel)
        found = builder.numbering.elements(result) if isinstance(result, str) else result
        return found.reshape(len(matrix), *positions).moveaxis(0, -1)
    return _dense_on_positions(context, x, matrix, bias)


def _grids(context: CallContext, elements: Elements) -> list[Shape]:
    """Spatial shapes that the positions may have: those of the sources, then their own."""
    count = math.prod(elements.shape[1:])
    shapes = [context.builder.shapes[s] for s, _ in context.builder.numbering.sources(elements.ids)]
    grids = [shape[1:] for shape in shapes if math.prod(shape[1:]) == count and len(shape) > 1]
    if len(elements.shape) in (2, 3):
        grids.append(elements.shape[1:])
    return list(dict.fromkeys(grids))


def _dense_on_positions(context: CallContext, x: Traced, matrix: Array, bias: Array) -> Result:
    """One fully connected layer that computes all positions."""
    elements = context.elements(x)
    count = math.prod(elements.shape[:-1])
    check_weights(context.path, count * len(matrix), elements.ids.size)
    every = np.kron(np.eye(count), matrix)
    flat = replace_value(x, elements.reshape(-1), (x.shape[0], elements.ids.size))
    result = _on_vector(context, flat, every, np.tile(bias, count))
    found = result if isinstance(result, Elements) else context.builder.numbering.elements(result)
    return found.reshape(*elements.shape[:-1], len(matrix))


def addmm(
    context: CallContext, x: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1
) -> Result:
    """y = beta * x + alpha * (mat1 @ mat2): a linear layer of a decomposed exported program."""
    if beta != 1 or alpha != 1 or isinstance(x, Traced):
        raise context.unsupported("a scaled or traced bias", "a constant bias, alpha = beta = 1")
    return linear(context, mat1, _transposed(context, mat2), x)


def matmul(context: CallContext, x: Any, other: Any = None, mat2: Any = None) -> Result:
    """y = x @ W for a constant matrix W, or W @ x."""
    second = other if mat2 is None else mat2
    if not isinstance(x, Traced) and isinstance(second, Traced):
        if not hasattr(x, "dim") or x.dim() != 2 or len(second.shape) < 3:
            raise _two_tensors(context)
        elements = context.elements(second).moveaxis(-1, -2)
        swapped = replace_value(second, elements, (second.shape[0], *elements.shape))
        result = linear(context.on(context.shape), swapped, x)
        found = (
            result if isinstance(result, Elements) else context.builder.numbering.elements(result)
        )
        return found.moveaxis(-1, -2)
    return linear(context, x, _transposed(context, second))


def _transposed(context: CallContext, value: Any) -> Any:
    if isinstance(value, Traced) or not hasattr(value, "dim") or value.dim() != 2:
        raise _two_tensors(context)
    return value.t()


def _two_tensors(context: CallContext) -> Unsupported:
    return context.unsupported(
        "a matrix product of two tensors that depend on the input, or not of rank 2",
        "a product with one constant matrix",
    )


def _check_axes(context: CallContext, x: Any, axes: int, most: int = 2) -> None:
    if not 1 <= axes <= most:
        raise context.unsupported(f"{axes} spatial axes", f"1 to {most}", "Use the 2d form.")
    if len(context.source_shape(x)) != axes + 1:
        raise context.unsupported("an input without a batch axis", f"[B, C] and {axes} more axes")


def _conv_padding(padding: Any, kernel: Shape, dilation: Shape) -> Pairs:
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((t // 2, math.ceil(t / 2)) for t in total)
    return tuple((p, p) for p in spread(padding, len(kernel)))


LOWERINGS: dict[str, Lowering] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "convolution": convolution,
    "linear": linear,
    "addmm": addmm,
    "matmul": matmul,
}
