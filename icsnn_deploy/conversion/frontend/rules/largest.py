"""The largest and the smallest of several tensors of one shape."""

from __future__ import annotations

from collections.abc import Sequence

from icsnn_deploy.conversion.frontend.builder import Result, Storage, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.rules.extremum import maximum, minimum

_MOST_TERMS = 64
"""Tensors whose maximum is taken pair by pair."""


def largest_of(context: CallContext, terms: Sequence[Elements], *, sign: int = 1) -> Result:
    """The elementwise maximum of tensors of one shape, or their minimum with sign -1."""
    if len(terms) > _MOST_TERMS:
        raise context.unsupported(
            f"the largest of {len(terms)} values in uneven windows",
            f"at most {_MOST_TERMS}",
            "Choose an output size that divides the input's.",
        )
    rule = maximum if sign > 0 else minimum
    found = [as_traced(context, term) for term in terms]
    while len(found) > 1:
        pairs = [
            as_traced(context, rule(context, one, two))
            for one, two in zip(found[::2], found[1::2], strict=False)
        ]
        found = pairs + found[2 * len(pairs) :]
    return found[0].value


def as_traced(context: CallContext, value: Result) -> Traced:
    shape = context.builder.shapes[value] if isinstance(value, str) else value.shape
    size = (context.builder.batch, *shape)
    return Traced(value, size, context.dtype, context.path, Storage())
