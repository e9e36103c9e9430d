"""The largest and the smallest value along any axes: amax, amin, max and min."""

from __future__ import annotations

from typing import Any

from icsnn_deploy.conversion.frontend.builder import Result, Unsupported
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.rules.extremum import maximum, minimum
from icsnn_deploy.conversion.frontend.rules.largest import as_traced
from icsnn_deploy.conversion.frontend.rules.max_pool import largest_in_space


def over_axes(
    context: CallContext, x: Any, dim: Any = None, keepdim: bool = False, *, sign: int = 1
) -> Result:
    """amax, amin, max and min over axes of a sample."""
    data = context.traced(x)
    rank = len(data.shape)
    given = tuple(range(1, rank)) if dim is None or dim in ((), []) else dim
    axes = sorted(
        {int(d) % rank for d in (given if isinstance(given, (tuple, list)) else (given,))}
    )
    if dim is None or 0 in axes:
        raise context.unsupported(
            f"axes {axes} of {rank}", "axes of a sample (1 and later)", "Keep the batch axis."
        )
    elements = context.elements(data)
    space = [axis for axis in axes if axis > 1]
    if space and 3 <= rank <= 4:
        try:
            elements = largest_in_space(context, data, [axis - 2 for axis in space], sign)
        except Unsupported:
            if len(space) < len(axes):
                raise
        else:
            axes = [axis for axis in axes if axis <= 1]
    for axis in axes:
        elements = _along(context, elements, axis - 1, sign)
    return elements.reshape(*context.shape[1:])


def _along(context: CallContext, elements: Elements, axis: int, sign: int) -> Elements:
    """The maximum along one axis, which keeps length 1, by halving it."""
    rule = maximum if sign > 0 else minimum
    while elements.shape[axis] > 1:
        count = elements.shape[axis]
        half = count // 2
        one, two, rest = (
            elements.taken(part, axis)
            for part in (range(half), range(half, 2 * half), range(2 * half, count))
        )
        pair = rule(context, as_traced(context, one), as_traced(context, two))
        found = context.builder.numbering.elements_of(pair)
        parts = [found, rest] if rest.ids.size else [found]
        elements = Elements.joined(parts, axis)
    return elements


def of_two_or_along(context: CallContext, x: Any, *arguments: Any, **options: Any) -> Result:
    """torch.max: of two tensors, or along an axis."""
    return _dispatched(context, x, arguments, options, 1)


def smaller_of_two_or_along(
    context: CallContext, x: Any, *arguments: Any, **options: Any
) -> Result:
    """torch.min"""
    return _dispatched(context, x, arguments, options, -1)


def _dispatched(
    context: CallContext, x: Any, arguments: tuple[Any, ...], options: dict[str, Any], sign: int
) -> Result:
    other = options.get("other", arguments[0] if arguments else None)
    if isinstance(other, int) or "dim" in options or other is None:
        return over_axes(context, x, *arguments, **options, sign=sign)
    return (maximum if sign > 0 else minimum)(context, x, other)


def amax(context: CallContext, x: Any, dim: Any = None, keepdim: bool = False) -> Result:
    """The largest value over axes."""
    return over_axes(context, x, dim, keepdim)


def amin(context: CallContext, x: Any, dim: Any = None, keepdim: bool = False) -> Result:
    """The smallest value over axes."""
    return over_axes(context, x, dim, keepdim, sign=-1)


LOWERINGS: dict[str, Lowering] = {
    "max": of_two_or_along,
    "min": smaller_of_two_or_along,
    "amax": amax,
    "amin": amin,
}
