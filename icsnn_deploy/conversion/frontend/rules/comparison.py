"""Comparisons, signs and masks, and what takes their jumps away: where, and products.

    where(x > 0, x, 0.1 * x)      x * (x > 0)      x * sign(x)      x.masked_fill(x < 0, 0)

A mask is a step function of a tensor. It has no node (see Builder.symbol); what it is combined with
has one as soon as the result no longer jumps.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import Function, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.piecewise_linear import (
    PiecewiseLinear,
    chosen,
    combined,
    larger,
    product,
)
from icsnn_deploy.conversion.frontend.rules.extremum import difference, maximum, minimum
from icsnn_deploy.conversion.frontend.rules.piecewise_linear import result
from icsnn_deploy.conversion.frontend.rules.same_source import Common, common

_ALLOWED = "where, masks and comparisons of one tensor, whose result is continuous"
_REMEDY = "Write it as a rectifier of one tensor, or replace it and retrain."


def compare(context: CallContext, x: Any, other: Any, *, sign: int, equal: bool) -> str:
    """x > other for sign 1, x < other for sign -1; `equal` says what equal values give."""
    x, other, sign = (x, other, sign) if isinstance(x, Traced) else (other, x, -sign)
    found = common(context, x, other)
    step = PiecewiseLinear.of([0], [0, 0], [int(sign < 0), int(sign > 0)])
    if found is not None:
        tie = sign if equal else -sign

        def gap(a: Any, b: Any) -> Any:
            slope, height = a[0] - b[0], a[1] - b[1]
            return slope, np.where((slope == 0) & (height == 0), tie, height)

        f = step.after(combined(gap, *found.functions))
        if f is not None:
            return _symbol(context, Function(source=found.source, f=f, origin=context.path))
    first, second = context.source(x), context.source(other)
    made = Function(
        source=difference(context, x, other),
        f=step.widened(len(context.builder.shapes[first])),
        origin=context.path,
        operands=(first, second) if sign > 0 else (second, first),
    )
    return _symbol(context, made)


def sign(context: CallContext, x: Any) -> str:
    """-1, 0 or 1"""
    found = common(context, x)
    steps = PiecewiseLinear.of([0], [0, 0], [-1, 1])
    f = None if found is None else steps.after(found.functions[0])
    if found is None or f is None:
        raise context.unsupported("the sign of a value that may be 0", _ALLOWED, _REMEDY)
    return result(context, found.source, f)


def inverted(context: CallContext, x: Any) -> str:
    """logical_not of a mask."""
    found = _masks(context, x)
    f = combined(lambda a: (a[0], 1 - a[1]), *found.functions)
    return _symbol(context, Function(source=found.source, f=f, origin=context.path))


def both(context: CallContext, x: Any, other: Any) -> str:
    """logical_and of two masks of one tensor."""
    found = _masks(context, x, other)
    f = product(*found.functions)
    if f is None:
        raise context.unsupported("an operand that is no mask", _ALLOWED, _REMEDY)
    return _symbol(context, Function(source=found.source, f=f, origin=context.path))


def either(context: CallContext, x: Any, other: Any) -> str:
    """logical_or of two masks of one tensor."""
    found = _masks(context, x, other)
    f = larger(*found.functions)
    return _symbol(context, Function(source=found.source, f=f, origin=context.path))


def where(
    context: CallContext, *operands: Any, condition: Any = None, x: Any = None, other: Any = None
) -> str:
    """torch.where(condition, x, other), and x.where(condition, other)."""
    given = [one for one in (condition, x, other) if one is not None]
    given = [*operands, *given]
    if len(given) == 3 and condition is None and not _is_mask(given[0]):
        given[:2] = given[1::-1]
    if len(given) != 3:
        raise context.unsupported("a mask alone", "where(mask, x, y)", _REMEDY)
    return _selected(context, *given)


def masked_fill(context: CallContext, x: Any, mask: Any, value: Any) -> str:
    """x with the value where the mask is true."""
    return _selected(context, mask, value, x)


def filled(context: CallContext, x: Any, *arguments: Any, value: Any = None, **options: Any) -> str:
    """zeros_like, ones_like, full_like and their methods: a constant of the shape of x."""
    if value is None:
        value = options.pop("fill_value", arguments[-1] if arguments else None)
    found = None if context.shape != getattr(x, "shape", None) else common(context, x)
    if found is None or not isinstance(value, (int, float)):
        raise context.unsupported(
            f"a constant of shape {context.shape}", "a number, in the shape of the tensor"
        )
    rank = len(context.builder.shapes[found.source])
    f = PiecewiseLinear.linear(0, float(value)).widened(rank)
    return _symbol(context, Function(source=found.source, f=f, origin=context.path))


def _selected(context: CallContext, mask: Any, first: Any, second: Any) -> str:
    """The first value where the mask is true, else the second."""
    found = common(context, mask, first, second)
    if found is not None:
        return result(context, found.source, chosen(*found.functions))
    function = context.builder.functions.get(str(mask.value)) if isinstance(mask, Traced) else None
    if function is not None and function.operands is not None:
        names = [
            context.function_source(one) if isinstance(one, Traced) else ""
            for one in (first, second)
        ]
        if tuple(names) == function.operands:
            return maximum(context, first, second)
        if tuple(names[::-1]) == function.operands:
            return minimum(context, first, second)
    raise context.unsupported("tensors that do not come from the one compared", _ALLOWED, _REMEDY)


def _masks(context: CallContext, *masks: Any) -> Common:
    found = common(context, *masks) if all(_is_mask(one) for one in masks) else None
    if found is None:
        raise context.unsupported("masks of different tensors", _ALLOWED, _REMEDY)
    return found


def _is_mask(value: Any) -> bool:
    return isinstance(value, (Traced, torch.Tensor)) and value.dtype == torch.bool


def _symbol(context: CallContext, made: Function) -> str:
    return context.builder.symbol(context.path, context.builder.shapes[made.source], made)


LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys(("gt", "greater"), partial(compare, sign=1, equal=False)),
    **dict.fromkeys(("ge", "greater_equal"), partial(compare, sign=1, equal=True)),
    **dict.fromkeys(("lt", "less"), partial(compare, sign=-1, equal=False)),
    **dict.fromkeys(("le", "less_equal"), partial(compare, sign=-1, equal=True)),
    "sign": sign,
    "logical_not": inverted,
    "logical_and": both,
    "logical_or": either,
    "where": where,
    "masked_fill": masked_fill,
    **{name: partial(filled, value=0.0) for name in ("zeros_like", "new_zeros")},
    **{name: partial(filled, value=1.0) for name in ("ones_like", "new_ones")},
    **dict.fromkeys(("full_like", "new_full"), filled),
}
