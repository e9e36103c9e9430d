"""Reshaping, slicing and zero padding; the last two become convolutions that select elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import CallContext, Lowering, Traced
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Linear, Pairs, Shape


def identity(context: CallContext, x: Any, *arguments: Any, memory_format: Any = None) -> str:
    """Calls that change no values: the result is the node of x."""
    if not isinstance(x, Traced):
        raise context.unsupported("a constant", "data")
    return x.node


def dropout(
    context: CallContext, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> str:
    """The identity in eval mode; F.dropout without `training` is active even then."""
    if training and p > 0:
        raise context.unsupported(
            "active in eval mode", "training=False", "Call it with training=self.training."
        )
    return identity(context, x)


def stochastic_depth(
    context: CallContext, x: Any, p: float = 0.5, mode: str = "row", training: bool = True
) -> str:
    """torchvision's dropout of whole branches."""
    return dropout(context, x, p, training)


def cast(context: CallContext, x: Any, *arguments: Any, **options: Any) -> str:
    """A conversion that keeps the values."""
    if isinstance(x, Traced) and context.dtype not in (x.dtype, torch.float32):
        raise context.unsupported(
            f"{x.dtype} to {context.dtype}", "float32", "Remove the conversion."
        )
    return identity(context, x)


def reshape(context: CallContext, x: Any, *arguments: Any, **options: Any) -> str:
    """Any reshape within a sample: flattening to [B, features], or a view without a node."""
    if not isinstance(x, Traced):
        raise context.unsupported("a constant", "data")
    if not context.shape or context.shape[0] != x.shape[0]:
        raise context.unsupported(
            f"{x.shape} to {context.shape}, across the batch",
            "shapes that keep the batch axis first",
            "Flatten with start_dim=1, or reshape to [x.size(0), -1].",
        )
    return context.flattened(x.node)


def getitem(context: CallContext, x: Any, index: Any) -> str:
    """x[:, a:b:c, ...]"""
    shape = context.source_shape(x)
    given = list(index) if isinstance(index, (tuple, list)) else [index]
    if Ellipsis in [one for one in given if one is Ellipsis]:
        place = next(i for i, one in enumerate(given) if one is Ellipsis)
        missing = len(shape) + 1 - (len(given) - 1)
        given[place : place + 1] = [slice(None)] * missing
    if not all(isinstance(one, slice) for one in given):
        raise context.unsupported(
            "an index that drops, adds or gathers along an axis",
            "slices start:stop:step",
            "Use slices that keep every axis.",
        )
    given += [slice(None)] * (len(shape) + 1 - len(given))
    lengths = (x.shape[0], *shape)
    return _select(context, x, [range(n)[one] for n, one in zip(lengths, given, strict=True)])


def slice_axis(
    context: CallContext,
    x: Any,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> str:
    """aten.slice: one axis at a time."""
    rank = len(context.source_shape(x)) + 1
    index = [slice(None)] * rank
    index[dim % rank] = slice(start, end, step)
    return getitem(context, x, index)


def narrow(context: CallContext, x: Any, dim: int, start: int, length: int) -> str:
    """x.narrow(dim, start, length)"""
    rank = len(context.source_shape(x)) + 1
    begin = start % x.shape[dim]
    return slice_axis(context, x, dim % rank, begin, begin + length)


def pad(
    context: CallContext, x: Any, pad: Any, mode: str = "constant", value: float | None = None
) -> str:
    """F.pad with zeros, last axis first; a negative padding crops."""
    if mode != "constant" or value not in (None, 0):
        raise context.unsupported(
            f"mode {mode!r}, value {value}", "zero padding", "Retrain with zero padding."
        )
    shape = context.source_shape(x)
    ends = [int(one) for one in pad]
    pairs = [(0, 0)] * (len(shape) + 1)
    for axis in range(len(ends) // 2):
        pairs[-1 - axis] = (ends[2 * axis], ends[2 * axis + 1])
    if pairs[0] != (0, 0):
        raise context.unsupported("padding of the batch axis", "padding of channels and space")
    kept = [
        range(max(0, -before), length - max(0, -after))
        for (before, after), length in zip(pairs[1:], shape, strict=True)
    ]
    source = _select(context, x, [range(x.shape[0]), *kept])
    grown = tuple((max(0, before), max(0, after)) for before, after in pairs[1:])
    return _zero_pad(context, source, grown)


def _select(context: CallContext, x: Traced, kept: list[range]) -> str:
    """The elements at the kept positions of each axis, batch first."""
    source, shape = context.source(x), context.source_shape(x)
    batch, *ranges = kept
    if batch != range(x.shape[0]):
        raise context.unsupported("slicing of the batch axis", "slicing of channels and space")
    if any(len(one) == 0 for one in kept):
        raise context.unsupported("an empty slice", "slices that keep something")
    if ranges == [range(length) for length in shape]:
        return source
    if source in context.builder.selections:
        # An exported program slices one axis at a time: combine the slices in one convolution.
        source, before = context.builder.selections[source]
        ranges = [
            old[new.start : new.stop : new.step] for old, new in zip(before, ranges, strict=True)
        ]
    name = context.add(_picking(context, source, ranges))
    context.builder.selections[name] = (source, tuple(ranges))
    return name


def _picking(
    context: CallContext, source: str, kept: Sequence[range], placed: Array | None = None
) -> Conv | Linear:
    """A layer that selects positions; `placed` [C_out, len(kept[0])] then mixes the channels."""
    shape = context.builder.shapes[source]
    channels, *space = kept
    picked = np.zeros((len(channels), shape[0]), np.float32)  # [C_out, C_in]
    picked[np.arange(len(channels)), list(channels)] = 1
    if placed is not None:
        picked = placed @ picked
    if not space:
        return _linear(context, source, picked)
    kernel, stride = [], []
    for one, length in zip(space, shape[1:], strict=True):
        step = one.step if len(one) > 1 else length
        # The smallest window that covers the first position and fits exactly the positions wanted.
        kernel.append(max(one.start + 1, length - step * len(one) + 1))
        stride.append(step)
    tap = np.zeros(kernel, np.float32)
    tap[tuple(one.start for one in space)] = 1
    none = ((0, 0),) * len(space)
    if np.array_equal(picked, np.eye(shape[0])):
        weight = np.repeat(tap[None, None], shape[0], axis=0)  # [C, 1, *kernel]
        return _conv(context, source, weight, tuple(stride), none, shape[0])
    weight = np.multiply.outer(picked, tap)  # [C_out, C_in, *kernel]
    return _conv(context, source, weight, tuple(stride), none, 1)


def _zero_pad(context: CallContext, source: str, pairs: Pairs) -> str:
    shape = context.builder.shapes[source]
    if not any(any(pair) for pair in pairs):
        return source
    (before, after), space = pairs[0], pairs[1:]
    placed = np.eye(before + shape[0] + after, shape[0], -before, dtype=np.float32)
    ones = (1,) * len(space)
    if not space:
        return context.add(_linear(context, source, placed))
    if not any(any(pair) for pair in space) and source in context.builder.selections:
        # ResNet's option A, slicing and then channels of zeros: one strided convolution.
        return context.add(_picking(context, *context.builder.selections[source], placed))
    if before or after:
        weight = placed.reshape(*placed.shape, *ones)
        return context.add(_conv(context, source, weight, ones, space, 1))
    weight = np.ones((shape[0], 1, *ones), np.float32)
    name = context.add(_conv(context, source, weight, ones, space, shape[0]))
    context.builder.paddings[name] = (source, space)
    return name


def _conv(
    context: CallContext, source: str, weight: Array, stride: Shape, padding: Pairs, groups: int
) -> Conv:
    return Conv(
        name=context.name(),
        inputs=(source,),
        weight=weight,
        bias=np.zeros(len(weight), np.float32),
        stride=stride,
        padding=padding,
        dilation=(1,) * len(stride),
        groups=groups,
    )


def _linear(context: CallContext, source: str, weight: Array) -> Linear:
    bias = np.zeros(len(weight), np.float32)
    return Linear(name=context.name(), inputs=(source,), weight=weight, bias=bias)


LOWERINGS: dict[str, Lowering] = {
    "identity": identity,
    "dropout": dropout,
    "torchvision.ops.stochastic_depth.stochastic_depth": stochastic_depth,
    "to": cast,
    "reshape": reshape,
    "getitem": getitem,
    "slice": slice_axis,
    "narrow": narrow,
    "pad": pad,
}
