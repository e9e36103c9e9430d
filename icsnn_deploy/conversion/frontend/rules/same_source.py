"""Functions of the same tensor that are added, multiplied or selected are one function of it.

    x * (x > 0)      where(x > 0, x, 0.1 * x)      (x + abs(x)) / 2      max(x, 0.1 * x)

So comparisons and signs, which jump and have no node (see Builder.symbol), may become a rectifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.piecewise_linear import (
    PiecewiseLinear,
    combined,
    product,
    total,
)
from icsnn_deploy.conversion.frontend.rules.piecewise_linear import function_of, parameter, result
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Relu, Shape


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
            if not np.isfinite(value).all():
                raise context.unsupported("an infinite constant", "finite constants")
            functions.append(PiecewiseLinear.linear(value * 0, value).widened(len(shape)))
            activated.append(False)
            continue
        view = _view_on(views[id(one)], here.source) or views[id(one)][0]
        functions.append(view.f.widened(len(shape)))
        activated.append(view.activated)
    symbolic = any(context.builder.is_symbol(str(one.value)) for one in traced)
    return Common(
        source=here.source,
        functions=tuple(functions),
        symbolic=symbolic,
        activated=tuple(activated),
    )


def affine_of_symbol(context: CallContext, x: Traced, scale: Any, shift: Any) -> str:
    """scale * x + shift of a tensor without a node."""
    shape = context.source_shape(x)
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
        before = function_of(context, view.source)
        f = None if before is None else view.f.after(before.f)
        if before is None or f is None:
            return found
        made = view.source in builder.functions and not isinstance(
            builder.nodes.get(view.source), Relu
        )
        view = _View(before.source, f, view.activated or made)
        found.append(view)


def _view_on(views: list[_View], source: str) -> _View | None:
    return next((view for view in views if view.source == source), None)


def _operand(context: CallContext, value: Any, shape: Shape) -> Array:
    """A number or an array as `parameter` gives it."""
    given = np.asarray(value, np.float64)
    return parameter(context, torch.from_numpy(given) if given.ndim else float(given), shape)
