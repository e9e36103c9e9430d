"""Concatenation along the channels; the operators after it are applied to its parts.

    conv(cat(a, b)) = conv_a(a) + conv_b(b)          the weights split
    relu(cat(a, b)) = cat(relu(a), relu(b))          likewise pooling, batch norm, flatten

An operator that cannot be applied to parts gets the whole concatenation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from icsnn_deploy.conversion.frontend.builder import (
    CallContext,
    Concatenation,
    Lowering,
    Storage,
    Traced,
)
from icsnn_deploy.graph.nodes import Add

Arguments = Mapping[str, Any]


def cat(context: CallContext, tensors: Any, dim: int = 0) -> str:
    """torch.cat of tensors of equal spatial shape, along the channels."""
    if not all(isinstance(one, Traced) for one in tensors):
        raise context.unsupported("a constant among the parts", "parts that depend on the input")
    sources = [context.source(one) for one in tensors]
    if dim % len(context.shape) != 1:
        raise context.unsupported(f"dim={dim}", "dim=1, the channels", "Concatenate along dim=1.")
    if len(context.shape) > 4:
        raise context.unsupported(f"{len(context.shape) - 2} spatial axes", "two at most")
    return _joined(context, [part for source in sources for part in _parts(context, source)])


def _parts(context: CallContext, name: str) -> tuple[str, ...]:
    """The parts of a concatenation; the node itself if it is none."""
    node = context.builder.nodes.get(name)
    return node.inputs if isinstance(node, Concatenation) else (name,)


def _joined(context: CallContext, parts: list[str]) -> str:
    """The concatenation of the parts; dropped in the end if no node uses it as a whole."""
    if len(parts) == 1:
        return parts[0]
    return context.add(Concatenation(name=context.name(), inputs=tuple(parts)))


def by_parts(
    context: CallContext, operator: str, rule: Lowering, arguments: Arguments
) -> str | None:
    """Apply a call to each part of a concatenation; None if it must take its operand as a whole.

    Args:
        context: the call.
        operator: its name.
        rule: how it is lowered.
        arguments: of the call, by name.
    """
    x, split = arguments.get("x"), _SPLITS.get(operator)
    if split is None or not isinstance(x, Traced):
        return None
    parts = _parts(context, x.node)
    if len(parts) == 1 or x.shape[1:] != context.builder.shapes[x.node]:
        return None
    return split(context, rule, parts, arguments)


def _channelwise(
    context: CallContext, rule: Lowering, parts: tuple[str, ...], arguments: Arguments
) -> str:
    """f(cat(a, b)) = cat(f(a), f(b)), parameters per channel split."""
    results, begin = [], 0
    for part in parts:
        shape = context.builder.shapes[part]
        end = begin + shape[0]
        own = {
            name: value[begin:end] if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in arguments.items()
        }
        own["x"] = _traced(context, part, arguments["x"])
        size = (context.shape[0], shape[0], *context.shape[2:])
        inner = CallContext(
            context.builder,
            context.path,
            context.got,
            size,
            context.dtype,
            rectified=context.rectified,
        )
        results.append(rule(inner, **own))
        begin = end
    return _joined(context, results)


def _flat(
    context: CallContext, rule: Lowering, parts: tuple[str, ...], arguments: Arguments
) -> str | None:
    """flatten(cat(a, b)) = cat(flatten(a), flatten(b)): the channel axis is the slowest."""
    shapes = [context.builder.shapes[part] for part in parts]
    if len(context.shape) != 2 or context.shape[1] != sum(math.prod(shape) for shape in shapes):
        return None
    results = []
    for part, shape in zip(parts, shapes, strict=True):
        size = (context.shape[0], math.prod(shape))
        inner = CallContext(context.builder, context.path, context.got, size, context.dtype)
        results.append(inner.flattened(part))
    return _joined(context, results)


def _affine(
    context: CallContext, rule: Lowering, parts: tuple[str, ...], arguments: Arguments
) -> str | None:
    """Convolution or linear: weights split by input channel, the bias added once."""
    weight = arguments["weight"]
    if not isinstance(weight, torch.Tensor) or arguments.get("groups", 1) != 1:
        return None
    results, begin = [], 0
    for part in parts:
        end = begin + context.builder.shapes[part][0]
        own = {**arguments, "weight": weight[:, begin:end]}
        own["x"] = _traced(context, part, arguments["x"])
        if begin:
            own["bias"] = None
        results.append(rule(context, **own))
        begin = end
    return context.add(Add(name=context.name("sum"), inputs=tuple(results)))


def _traced(context: CallContext, part: str, whole: Traced) -> Traced:
    shape = (whole.shape[0], *context.builder.shapes[part])
    return Traced(part, shape, whole.dtype, whole.origin, Storage())


_Split = Callable[[CallContext, Lowering, "tuple[str, ...]", Arguments], "str | None"]

_SPLITS: dict[str, _Split] = {
    **dict.fromkeys(("conv", "convolution", "linear"), _affine),
    "reshape": _flat,
    "clip": _channelwise,  # other activations do the same in rules.piecewise_linear
    **dict.fromkeys(
        (
            "batch_norm",
            "native_batch_norm",
            "avg_pool1d",
            "avg_pool2d",
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "max_pool1d",
            "max_pool2d",
            "max_pool2d_with_indices",
            "adaptive_max_pool1d",
            "adaptive_max_pool2d",
            "mean",
        ),
        _channelwise,
    ),
}

LOWERINGS: dict[str, Lowering] = {"cat": cat}
