"""Average pooling with every option, and means and sums over any axes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from icsnn_deploy.conversion.frontend.builder import Result, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather import gather
from icsnn_deploy.conversion.frontend.images import choose_phases, on_nodes
from icsnn_deploy.conversion.frontend.kernels import Kernel, convolve, mix_channels, replace_value
from icsnn_deploy.conversion.frontend.pushed import push
from icsnn_deploy.conversion.frontend.rules.affine import spread
from icsnn_deploy.conversion.frontend.rules.channel_means import channel_means
from icsnn_deploy.conversion.frontend.rules.largest import as_traced
from icsnn_deploy.conversion.frontend.rules.linear import linear
from icsnn_deploy.conversion.frontend.rules.resize import along_axes
from icsnn_deploy.conversion.frontend.sums import sum_of
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import AvgPool, Shape
from icsnn_deploy.passes.affine import pure_scale

_MOST_TERMS = 16
"""Tensors whose mean is taken as a sum of them."""


def avg_pool(
    context: CallContext,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    axes: int,
) -> Result:
    """avg_pool1d and avg_pool2d."""
    data = _image(context, x, axes)
    kernel, pads = spread(kernel_size, axes), spread(padding, axes)
    steps = kernel if stride is None or stride == [] else spread(stride, axes)
    lengths = tuple(
        (n + 2 * p - k) // s + 1
        for n, p, k, s in zip(data.shape[2:], pads, kernel, steps, strict=True)
    )
    even = divisor_override in (None, math.prod(kernel)) and (count_include_pad or not any(pads))
    if even and lengths == tuple(context.shape[2:]):
        return _windows(context, data, kernel, steps, pads)

    def apply(tensor: torch.Tensor) -> torch.Tensor:
        override = {} if divisor_override is None else {"divisor_override": divisor_override}
        pool = functional.avg_pool1d if axes == 1 else functional.avg_pool2d
        return pool(tensor, kernel, steps, pads, ceil_mode, count_include_pad, **override)

    return along_axes(context, data, apply)


def _windows(
    context: CallContext, x: Traced, kernel: Shape, stride: Shape, padding: Shape
) -> Result:
    """Means over equal windows: an AvgPool on each node of whole channels, or a convolution."""
    builder = context.builder
    if not isinstance(x.value, str):
        weights = x.shape[1] * math.prod(kernel)
        phases = choose_phases(builder, x.value, weights)
        if any(r > 1 for r in phases) or len(x.shape) != 2 + len(kernel):
            mean = Kernel.window_mean(x.shape[1], kernel, stride, padding)
            return convolve(context, x, mean)

    def pooled(source: str) -> str:
        return context.add(
            AvgPool(
                name=context.name(),
                inputs=(source,),
                kernel=kernel,
                stride=stride,
                padding=tuple((p, p) for p in padding),
            )
        )

    if isinstance(x.value, str):
        return pooled(x.value)
    return on_nodes(builder, x.value, pooled) or pooled(context.source(x))


def adaptive_avg_pool(context: CallContext, x: Any, output_size: Any, *, axes: int) -> Result:
    """adaptive_avg_pool1d and 2d, for any output size."""
    data = _image(context, x, axes)
    lengths, wanted = data.shape[2:], context.shape[2:]
    if not any(length % out for length, out in zip(lengths, wanted, strict=True)):
        kernel = tuple(length // out for length, out in zip(lengths, wanted, strict=True))
        return _pool(context, data, kernel)
    if all(out % length == 0 for length, out in zip(lengths, wanted, strict=True)):
        repeats = [out // length for length, out in zip(lengths, wanted, strict=True)]

        def repeated(array: Any) -> Any:
            for axis, count in enumerate(repeats):
                array = np.repeat(array, count, axis=axis + 1)
            return array

        return context.elements(data).map(repeated)  # each window holds one value
    pool: Any = functional.adaptive_avg_pool1d if axes == 1 else functional.adaptive_avg_pool2d
    return along_axes(context, data, lambda tensor: pool(tensor, list(wanted)))


def mean(
    context: CallContext, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Result:
    """Mean over any axes but the batch."""
    return _reduced(context, x, dim, average=True)


def total(
    context: CallContext, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Result:
    """Sum over any axes but the batch."""
    return _reduced(context, x, dim, average=False)


def _reduced(context: CallContext, x: Any, dim: Any, *, average: bool) -> Result:
    data = context.traced(x)
    rank = len(data.shape)
    given = range(rank) if dim is None or dim == [] else dim
    given = given if isinstance(given, (tuple, list, range)) else (given,)
    batch = data.value.batch_axis if isinstance(data.value, Elements) else 0
    axes = sorted({int(d) % rank for d in given})
    if batch in axes:
        raise context.unsupported(
            f"axes {axes} of {rank}, with the samples along axis {batch}",
            "axes of a sample",
            "Keep the batch axis.",
        )
    count = math.prod(data.shape[axis] for axis in axes)
    elements = data.value if isinstance(data.value, Elements) else context.elements(data)
    kept = tuple(a - (a > batch) for a in range(rank) if a not in (batch, *axes))
    over = tuple(axis - (axis > batch) for axis in axes)
    lines = elements.map(
        lambda array: array.transpose((*kept, *over)).reshape(
            *(array.shape[axis] for axis in kept), -1
        )
    )
    result = _over_space(context, lines, data) or _over_features(context, lines, data)
    if not average:
        result = _scaled(context, result, count)
    found = context.builder.numbering.elements_of(result)
    dropped = rank - len(context.shape)
    left = batch - sum(axis < batch for axis in axes) if dropped else batch
    shape = (*context.shape[:left], *context.shape[left + 1 :])
    if left:
        return replace(found.reshape(*shape), batch_axis=left)
    if isinstance(result, str) and context.builder.shapes[result] == shape:
        return result
    reshaped = found.reshape(*shape)
    if len(shape) == 1 and not context.builder.vectors_as_images:  # as a node of its own
        return gather(context.builder, reshaped, f"{context.path}.flatten")
    return reshaped


def _over_space(context: CallContext, lines: Elements, x: Traced) -> Result | None:
    """The mean of all positions of nodes of whole channels, or of whole rows or columns of them."""
    builder = context.builder
    sources = list(builder.numbering.sources(lines.ids))
    if len(sources) != 1 or lines.constants is not None:
        return None
    ((source, _),) = sources
    shape = builder.shapes[source]
    positions = lines.ids - builder.numbering.first(source)
    places = np.arange(math.prod(shape)).reshape(shape)
    for axes in _spatial_choices(len(shape)):
        moved = np.moveaxis(places, axes, range(-len(axes), 0))
        reduced = moved.reshape(*moved.shape[: len(shape) - len(axes)], -1)
        if reduced.size == positions.size and np.array_equal(
            reduced.reshape(-1, reduced.shape[-1]), positions.reshape(-1, positions.shape[-1])
        ):
            kernel = tuple(n if a in axes else 1 for a, n in enumerate(shape))[1:]
            whole = replace_value(x, source, (x.shape[0], *shape))
            result = _pool(context, whole, kernel)
            found = builder.numbering.elements_of(result)
            return found.reshape(*lines.shape[:-1])
    return None


def _spatial_choices(rank: int) -> list[tuple[int, ...]]:
    return [(1,)] if rank == 2 else [(1, 2), (1,), (2,)] if rank == 3 else []


def _over_features(context: CallContext, lines: Elements, x: Traced) -> Result:
    """The mean of several channels at each position, by convolutions of equal weights."""
    builder, count = context.builder, lines.shape[-1]
    slices = [
        lines.taken([i], -1).reshape(*lines.shape[:-1]) for i in range(min(count, _MOST_TERMS))
    ]
    if count <= _MOST_TERMS and all(builder.numbering.whole(one) is not None for one in slices):
        return sum_of(context, slices, factors=(1 / count,) * count) if count > 1 else slices[0]
    for axes in (2, 1):
        kept, grid = lines.shape[: -axes - 1], lines.shape[-axes - 1 : -1]
        if len(grid) < axes:
            continue
        channels = math.prod(kept)
        image = lines.reshape(channels, *grid, count).moveaxis(-1, 1)
        image = image.reshape(channels * count, *grid)
        weight = np.kron(np.eye(channels), np.full((1, count), 1 / count)).astype(np.float32)
        found = mix_channels(context, x, image, weight, np.zeros(channels, np.float32))
        if found is not None:
            return found.reshape(*kept, *grid)
    means = channel_means(context, lines, x)
    if means is not None:
        return means
    flat = lines if len(lines.shape) > 1 else lines.reshape(1, count)
    mean_of_all = torch.full((1, count), 1 / count, dtype=torch.float64)
    inner = context.on((x.shape[0], *flat.shape[:-1], 1))
    result = linear(inner, replace_value(x, flat, (x.shape[0], *flat.shape)), mean_of_all)
    found = builder.numbering.elements_of(result)
    return found.reshape(*(lines.shape[:-1] or (1,)))


def _scaled(context: CallContext, result: Result, factor: float) -> Result:
    """The result of a call, times a factor."""
    data = as_traced(context, result)

    def make(source: str, scale: Array) -> str:
        return context.add(pure_scale(context.name("count"), source, scale))

    every = np.full((1,) * (len(data.shape) - 1), factor)
    return push(context, data, make, every, constant=lambda values: values * factor)


def _pool(context: CallContext, x: Traced, kernel: Shape) -> Result:
    if math.prod(kernel) == 1:
        return x.value
    return _windows(context, x, kernel, kernel, (0,) * len(kernel))


def _image(context: CallContext, x: Any, axes: int) -> Traced:
    data = context.traced(x)
    if len(data.shape) != axes + 2:
        raise context.unsupported(
            f"an input of shape {list(data.shape)}", f"[B, C] and {axes} spatial axes"
        )
    return data


LOWERINGS: dict[str, Lowering] = {
    "avg_pool1d": partial(avg_pool, axes=1),
    "avg_pool2d": partial(avg_pool, axes=2),
    "adaptive_avg_pool1d": partial(adaptive_avg_pool, axes=1),
    "adaptive_avg_pool2d": partial(adaptive_avg_pool, axes=2),
    "mean": mean,
    "sum": total,
}
