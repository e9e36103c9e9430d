r"""The one rule of all piecewise-linear activations: a constant and a sum of rectifiers.

    x -- scale, shift -- relu -- factor --+--> f(x)
     \-- scale, shift -- relu -- factor --/

A function of a function is reduced first (ReLU of ReLU6 is ReLU6), and functions of the same tensor
that are added, multiplied or selected by a comparison are one function: where(x > 0, x, 0.1 * x),
x * (x > 0) and (x + abs(x)) / 2 are rectifiers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import CallContext, Concatenation, Function, Traced
from icsnn_deploy.conversion.frontend.nonnegative import is_nonnegative
from icsnn_deploy.conversion.frontend.piecewise_linear import (
    PiecewiseLinear,
    combined,
    product,
    total,
)
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


def _operand(context: CallContext, value: Any, shape: Shape) -> Array:
    """A number or an array as `parameter` gives it."""
    given = np.asarray(value, np.float64)
    return parameter(context, torch.from_numpy(given) if given.ndim else float(given), shape)


def activation(context: CallContext, x: Any, f: PiecewiseLinear) -> str:
    """Lower f(x); returns the node that computes it.

    Raises:
        Unsupported: f jumps, or x is no tensor that depends on the input.
    """
    jump = f.jump()
    if jump is not None:
        raise context.unsupported(
            f"a function that jumps at {jump:g}",
            "activations that are continuous and piecewise linear",
            "Replace it by ReLU, softshrink or a clip and retrain.",
        )
    if isinstance(x, Traced) and context.builder.is_symbol(context.function_source(x)):
        found = common(context, x)
        inner = None if found is None else f.after(found.functions[0])
        if found is not None and inner is not None:
            return result(context, found.source, inner)
    return _apply(context, context.source(x), f)


def result(context: CallContext, source: str, f: PiecewiseLinear) -> str:
    """The node that computes f of a node's result, or a symbol if f jumps."""
    if f.jump() is None:
        return _apply(context, source, f)
    shape = context.builder.shapes[source]
    made = Function(source=source, f=f.widened(len(shape)), origin=context.path)
    return context.builder.symbol(context.path, shape, made)


def affine_of_symbol(context: CallContext, x: Traced, scale: Any, shift: Any) -> str:
    """scale * x + shift of a tensor without a node."""
    shape = context.function_source_shape(x)
    factor, constant = (_operand(context, value, shape) for value in (scale, shift))
    found = common(context, x)
    if found is None:
        raise context.unsupported("a result without a node", "tensors that have one")
    f = combined(lambda a: (a[0] * factor, a[1] * factor + constant), *found.functions)
    return result(context, found.source, f)


def summed(context: CallContext, x: Traced, other: Traced, alpha: float) -> str | None:
    """x + alpha * other as one function of a tensor; None where the sum of two nodes is better.

    That is so unless one has no node, or is an activation of the other: then the other would be a
    path around the rectifiers, which the next layer reads as sums of weights.
    """
    found = common(context, x, other)
    if found is None:
        return None
    around = any(
        f.is_linear and f.slopes.any() and other_is_activated
        for f, other_is_activated in zip(found.functions, found.activated[::-1], strict=True)
    )
    if not (found.symbolic or around):
        return None
    f, g = found.functions
    return result(
        context, found.source, total(f, combined(lambda a: (alpha * a[0], alpha * a[1]), g))
    )


def multiplied(context: CallContext, x: Traced, other: Traced) -> str | None:
    """x * other where one of them is a mask of the tensor that the other comes from, else None."""
    found = common(context, x, other)
    f = None if found is None else product(*found.functions)
    return None if found is None or f is None else result(context, found.source, f)


@dataclass(frozen=True, kw_only=True, eq=False)
class Common:
    """Several tensors as functions of what one node computes.

    Attributes:
        source: the node.
        functions: one per tensor.
        symbolic: whether a tensor has no node, so that it must be combined.
        activated: per tensor, whether it is the result of an activation other than a rectifier.
    """

    source: str
    functions: tuple[PiecewiseLinear, ...]
    symbolic: bool
    activated: tuple[bool, ...]


def common(context: CallContext, *operands: Any) -> Common | None:
    """The operands as functions of the nearest node that they all come from; None without one.

    Args:
        context: the call.
        operands: tensors that depend on the input, and constants.

    Raises:
        Unsupported: a constant that does not broadcast.
    """
    traced = [one for one in operands if isinstance(one, Traced)]
    if not traced or len({one.shape for one in traced}) > 1:
        return None
    views = {id(one): _views(context, context.function_source(one)) for one in traced}
    varying = [one for one in traced if not views[id(one)][0].f.is_constant]
    first = views[id(varying[0] if varying else traced[0])]
    for here in first:
        chosen = [_view_on(views[id(one)], here.source) for one in varying]
        if None not in chosen:
            break
    else:
        return None
    shape = context.builder.shapes[here.source]
    functions, activated = [], []
    for one in operands:
        if not isinstance(one, Traced):
            value = parameter(context, one, shape)
            functions.append(PiecewiseLinear.linear(value * 0, value).widened(len(shape)))
            activated.append(False)
            continue
        view = _view_on(views[id(one)], here.source) or views[id(one)][0]
        functions.append(view.f.widened(len(shape)))
        activated.append(view.activated)
    symbolic = any(context.builder.is_symbol(one.node) for one in traced)
    return Common(
        source=here.source,
        functions=tuple(functions),
        symbolic=symbolic,
        activated=tuple(activated),
    )


@dataclass(frozen=True, eq=False)
class _View:
    """A result as a function of one of the nodes that lead to it."""

    source: str
    f: PiecewiseLinear
    activated: bool  # an activation lies between that is more than one rectifier


def _views(context: CallContext, name: str) -> list[_View]:
    """The result as a function of itself, of what it is a function of, and so on."""
    builder = context.builder
    rank = len(builder.shapes[name])
    view = _View(name, PiecewiseLinear.linear(1).widened(rank), False)
    found = [] if builder.is_symbol(name) else [view]
    while True:
        before = _function_of(context, view.source)
        f = None if before is None else view.f.after(before.f)
        if before is None or f is None:
            return found
        made = view.source in builder.functions and not isinstance(
            builder.nodes.get(view.source), Relu
        )
        view = _View(before.source, f, view.activated or made)
        found.append(view)


def _function_of(context: CallContext, name: str) -> Function | None:
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


def _view_on(views: list[_View], source: str) -> _View | None:
    return next((view for view in views if view.source == source), None)


def _apply(context: CallContext, source: str, f: PiecewiseLinear) -> str:
    """Add the nodes of f, which is continuous; parts of a concatenation get their own."""
    builder = context.builder
    f = f.widened(len(builder.shapes[source]))
    node = builder.nodes.get(source)
    if not isinstance(node, Concatenation):
        source, f = _reduced(context, source, f)
        return _registered(context, source, f, _add(context, source, f))
    results, begin = [], 0
    for part in node.inputs:
        end = begin + builder.shapes[part][0]
        results.append(_apply(context, part, f.channels(begin, end)))
        begin = end
    joined = Concatenation(name=context.name(), inputs=tuple(results))
    return _registered(context, source, f, context.add(joined))


def _registered(context: CallContext, source: str, f: PiecewiseLinear, name: str) -> str:
    if name != source and name not in context.builder.functions:
        context.builder.functions[name] = Function(source=source, f=f, origin=context.path)
    return name


def _reduced(context: CallContext, source: str, f: PiecewiseLinear) -> tuple[str, PiecewiseLinear]:
    """The same result with fewer rectifiers, from what is known of the source's values."""
    builder = context.builder
    node, before = builder.nodes.get(source), builder.functions.get(source)
    if before is None and isinstance(node, Relu):
        before = _function_of(context, source)
    if before is not None or isinstance(node, Relu):
        low, high = _limits(before, node)
        f = f.restricted(low, high)
        if f.is_linear:
            return source, f
        whole = None if before is None else f.after(before.f)
        f = _cheapest(f, f.after(clipping(low, high)))
        if before is not None and whole is not None and _cost(whole) <= _cost(f):
            return before.source, whole
    elif not f.is_linear and is_nonnegative(builder.nodes, source):
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
