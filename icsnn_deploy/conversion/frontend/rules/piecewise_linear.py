r"""The one rule of all piecewise-linear activations: a constant and a sum of rectifiers.

    x -- scale, shift -- relu -- factor --+--> f(x)
     \-- scale, shift -- relu -- factor --/

A function of a function is reduced first: ReLU of ReLU6 is ReLU6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import Function
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.nonnegative import is_nonnegative
from icsnn_deploy.conversion.frontend.piecewise_linear import PiecewiseLinear
from icsnn_deploy.conversion.frontend.rectifier_sum import rectifier_sum
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Relu, Shape, broadcast_shapes

_LARGEST = float(np.finfo(np.float32).max)


def clipping(low: Any, high: Any) -> PiecewiseLinear:
    """clip(x, low, high), for numbers or arrays, infinite ones included; `high` wins over `low`."""
    high = np.asarray(high, np.float64)
    low = np.minimum(np.asarray(low, np.float64), high)
    below, above = (np.where(np.isfinite(one), one, 0) for one in (low, high))
    return PiecewiseLinear.of([low, high], [0, 1, 0], [below, 0, above])


def parameter(context: CallContext, value: Any, shape: Shape, *, like: str = "") -> Array:
    """A constant operand as float64, broadcastable to a node's shape, of the same rank.

    Args:
        context: the call.
        value: a number, or a tensor that PyTorch broadcasts against [B, *shape].
        shape: of the node, without the batch.
        like: what the value is, for the message.

    Raises:
        Unsupported: it depends on the input, differs between samples, or does not broadcast.
    """
    if isinstance(value, torch.Tensor):
        array: Array = value.detach().to("cpu", torch.float64).numpy()
    elif isinstance(value, (int, float)):
        array = np.asarray(value, np.float64)
    else:
        raise context.unsupported(
            f"{like or 'an operand'} that depends on the input", "a constant", "Make it constant."
        )
    rank = len(shape) + 1
    if array.ndim <= rank:
        array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if array.ndim == rank and len(array) > 1 and (array == array[:1]).all():
        array = array[:1]
    fits = array.ndim == rank and all(
        a in (1, b) for a, b in zip(array.shape, (1, *shape), strict=True)
    )
    if not fits or np.isnan(array).any():
        raise context.unsupported(
            f"{like or 'a constant'} of shape {np.shape(value)}",
            f"one that broadcasts to {shape}, the same for every sample, without NaN",
        )
    array = array[0]
    return np.where(np.abs(array) >= _LARGEST, np.copysign(np.inf, array), array)


def result(context: CallContext, source: str, f: PiecewiseLinear) -> str:
    """The node that computes f of a node's result, or a symbol if f jumps."""
    if f.jump() is None:
        return _apply(context, source, f)
    shape = context.builder.shapes[source]
    made = Function(source=source, f=f.widened(len(shape)), origin=context.path)
    return context.builder.symbol(context.path, shape, made)


def function_of(context: CallContext, name: str) -> Function | None:
    """A result as a function of the node before it, if it is one."""
    if name in context.builder.functions:
        return context.builder.functions[name]
    node = context.builder.nodes.get(name)
    if isinstance(node, Relu) and node.levels is None:
        f = clipping(0, np.inf if node.upper is None else node.upper)
    elif isinstance(node, ChannelAffine):
        f = PiecewiseLinear.linear(node.scale, node.shift)
    else:
        return None
    return Function(source=node.inputs[0], f=f.widened(len(context.builder.shapes[name])))


def _apply(context: CallContext, source: str, f: PiecewiseLinear) -> str:
    """Add the nodes of f, which is continuous."""
    builder = context.builder
    f = f.widened(len(builder.shapes[source]))
    source, f = _reduced(context, source, f)
    name = _add(context, source, f)
    before = builder.functions.get(source)
    if f.is_linear and before is not None:  # so that the limits of the source are not lost
        f = f.after(clipping(*_limits(before, None))) or f
    return _registered(context, source, f, name)


def _registered(context: CallContext, source: str, f: PiecewiseLinear, name: str) -> str:
    if name != source and name not in context.builder.functions:
        context.builder.functions[name] = Function(source=source, f=f, origin=context.path)
    return name


def _reduced(context: CallContext, source: str, f: PiecewiseLinear) -> tuple[str, PiecewiseLinear]:
    """The same result with fewer rectifiers, from what is known of the source's values."""
    builder = context.builder
    node, before = builder.nodes.get(source), builder.functions.get(source)
    if before is None and isinstance(node, Relu):
        before = function_of(context, source)
    if before is not None or isinstance(node, Relu):
        low, high = _limits(before, node)
        f = f.restricted(low, high)
        if f.is_linear:
            return source, f
        whole = None if before is None else f.after(before.f)
        f = _cheapest(f, f.after(clipping(low, high)))
        if before is not None and whole is not None and _cost(whole) <= _cost(f):
            return before.source, whole
    elif _cost(f) > 1 and is_nonnegative(builder.nodes, source, builder.functions):
        rectifier = clipping(0, np.inf).widened(len(builder.shapes[source]))
        f = _cheapest(f, f.after(rectifier))
    return source, f


def _limits(before: Function | None, node: object) -> tuple[Array, Array]:
    """The least and largest value of a node that is a rectifier or computes a known function."""
    if before is not None:
        low, high = before.f.limits()
        return low[0], high[0]
    upper = node.upper if isinstance(node, Relu) else None
    return np.zeros(()), np.asarray(np.inf if upper is None else upper)


def _cheapest(f: PiecewiseLinear, other: PiecewiseLinear | None) -> PiecewiseLinear:
    return f if other is None or _cost(f) <= _cost(other) else other


def _cost(f: PiecewiseLinear) -> int:
    return len(rectifier_sum(f).rectifiers)


def _add(context: CallContext, source: str, f: PiecewiseLinear) -> str:
    if f.is_linear:
        return _scaled(context, "", source, f.slopes[0], f.intercepts[0])
    parts = rectifier_sum(f)
    alone = len(parts.rectifiers) == 1
    name, summands = context.name(), []
    for number, one in enumerate(parts.rectifiers):
        side = "" if alone else f"{one.side}."
        current = _scaled(context, f"{side}current", source, one.scale, one.shift)
        own = name if alone else context.name(one.side)
        relu = context.add(Relu(name=own, inputs=(current,), upper=one.upper))
        shift = parts.constant if number == 0 else 0 * parts.constant
        summands.append(_scaled(context, f"{side}weighted", relu, one.factor, shift))
    return summands[0] if alone else context.add(Add(name=name, inputs=tuple(summands)))


def _scaled(context: CallContext, suffix: str, source: str, scale: Array, shift: Array) -> str:
    """scale * x + shift; the node itself if that changes nothing."""
    if (scale == 1).all() and not shift.any():
        return source
    shape = context.builder.shapes[source]
    scale, shift = _compact(scale, shape), _compact(shift, shape)
    name = context.name(suffix)
    return context.add(ChannelAffine(name=name, inputs=(source,), scale=scale, shift=shift))


def _compact(values: Array, shape: Shape) -> Array:
    """The values as one per layer, per channel or per neuron, whichever is enough."""
    whole = np.broadcast_to(values, shape)
    for wanted in broadcast_shapes(shape):
        part = whole[tuple(slice(length) for length in wanted)]
        if (part == whole).all():
            return np.array(part)
    return np.array(whole)
