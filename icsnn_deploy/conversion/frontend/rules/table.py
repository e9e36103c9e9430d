"""Which rule lowers which operator, and what its operands are brought to before."""

from __future__ import annotations

import inspect

from icsnn_deploy.conversion.frontend.builder import Result
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.operators import Call
from icsnn_deploy.conversion.frontend.remedies import unsupported
from icsnn_deploy.conversion.frontend.rules import (
    activation,
    affine,
    average_pool,
    comparison,
    convolution,
    elementwise,
    extremum,
    linear,
    max_pool,
    move,
    over_axes,
    resize,
    volume,
)

_LOWERINGS: dict[str, Lowering] = {
    **activation.LOWERINGS,
    **affine.LOWERINGS,
    **comparison.LOWERINGS,
    **extremum.LOWERINGS,
    **over_axes.LOWERINGS,
    **convolution.LOWERINGS,
    **linear.LOWERINGS,
    **max_pool.LOWERINGS,
    **average_pool.LOWERINGS,
    **move.LOWERINGS,
    **resize.LOWERINGS,
    **volume.LOWERINGS,
}
_ELEMENTWISE = {*activation.LOWERINGS, *comparison.LOWERINGS, *extremum.LOWERINGS, "mul"}
_ELEMENTWISE -= {*over_axes.LOWERINGS, "piecewise_linear_per_channel"}
MOVES = frozenset(move.LOWERINGS)
"""Operators that only move values."""

_PARAMETERS = {"input": "x", "min": "low", "max": "high", "min_val": "low", "max_val": "high"}
"""Argument names of torch that would hide builtins in a lowering rule."""


def apply_rule(context: CallContext, call: Call, results: int) -> list[Result | None]:
    """What a call computes, for each of its results; None for one that has no node.

    Args:
        context: the call.
        call: with its operands.
        results: how many it has.

    Raises:
        Unsupported: there is no rule, or the rule refuses an argument.
    """
    rule = _LOWERINGS.get(call.operator)
    if rule is None:
        raise unsupported(call.operator, call.got)
    options = {_PARAMETERS.get(key, key): value for key, value in call.kwargs.items()}
    if rule is move.move:
        found = list(move.move(context, *call.args, **options))
        return found if len(found) == results else [None] * results
    try:
        bound = inspect.signature(rule).bind(context, *call.args, **options)
    except TypeError as error:
        raise context.unsupported(str(error), "its usual arguments") from None
    if call.operator in _ELEMENTWISE:
        first = elementwise.apply(context, call.operator, rule, bound)
    elif call.operator in max_pool.LOWERINGS:
        first = elementwise.apply_per_channel(context, rule, bound)
    else:
        first = rule(*bound.args, **bound.kwargs)
    return [first, *(None for _ in range(results - 1))]
