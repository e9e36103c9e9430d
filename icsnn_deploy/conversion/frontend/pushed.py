"""Apply an elementwise computation to rearranged elements: to the nodes that they come from.

    f(rearranged x) = rearranged f(x)

So a rectifier after a concatenation, a channel shuffle or an upsampling is computed once per value
of the network, before the rearrangement, and no layer is needed to rearrange anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Result, Traced, Unsupported
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.graph.neuron import Array

_LEAST_USED = 0.75
"""Share of a node's elements that must be used, if they can also be gathered."""

Make = Callable[..., str]
"""Takes the name of a source and one array per parameter, of a shape that broadcasts to the
source's with its channels first; returns the name of the node that computes the result."""


def push(
    context: CallContext,
    x: Traced,
    make: Make,
    *parameters: Array,
    constant: Callable[[Array], Array] | None = None,
) -> Result:
    """Apply a computation of single values to x.

    Args:
        context: the call.
        x: the operand.
        make: adds the node for one source.
        parameters: one array each, broadcastable to x without the batch.
        constant: the computation on constants, [*shape of x]; None keeps them.
    """
    numbering = context.builder.numbering
    whole = numbering.whole(context.elements(x))
    as_vector = len(x.shape) == 2 and not context.builder.vectors_as_images
    if isinstance(x.value, str) or (whole is not None and as_vector):
        node = context.source(x)
        return make(node, *(_for_node(one, x.shape[1:]) for one in parameters))
    elements = context.elements(x)
    every = [np.broadcast_to(one, elements.shape) for one in parameters]
    single = [np.size(one) == 1 for one in parameters]
    plan = _plan(context, elements, every)
    if plan is None or min(used for _, _, _, used in plan) < _LEAST_USED:
        try:
            node = context.source(x)
        except Unsupported:
            if plan is None:
                raise
        else:
            return make(node, *(_for_node(one, elements.shape) for one in parameters))
    ids = np.zeros_like(elements.ids)
    for source, mask, values, _ in plan or ():
        own = (
            v.reshape(-1)[:1].reshape((1,) * v.ndim) if one else v
            for v, one in zip(values, single, strict=True)
        )
        result = make(source, *own)
        offset = numbering.first(result) - numbering.first(source)
        ids[mask] = elements.ids[mask] + offset
    constants = elements.constants
    if constant is not None and (ids == 0).any():
        given = np.zeros(elements.shape) if constants is None else constants
        computed = np.where(ids == 0, constant(given), 0)
        constants = computed if computed.any() else None
    return Elements(ids, constants)


def push_pair(
    context: CallContext, x: Traced, other: Traced, make: Callable[[str, str], str]
) -> Elements | None:
    """Apply a computation of two values to tensors that are arranged alike; None if they are not.

    Args:
        context: the call.
        x: one operand.
        other: an operand of the same shape.
        make: takes a node of each, of one shape; returns the node that computes the result.
    """
    numbering = context.builder.numbering
    one, two = context.elements(x), context.elements(other)
    if one.shape != two.shape or one.constants is not None or two.constants is not None:
        return None
    pairs = []
    for source, mask in numbering.sources(one.ids):
        partners = list(numbering.sources(np.where(mask, two.ids, 0)))
        offset = np.unique(two.ids[mask] - one.ids[mask])
        if len(partners) != 1 or len(offset) != 1 or not two.ids[mask].all():
            return None
        partner = partners[0][0]
        same = numbering.shapes[partner] == numbering.shapes[source]
        if not same or offset[0] != numbering.first(partner) - numbering.first(source):
            return None
        pairs.append((source, partner, mask))
    if ((one.ids == 0) != (two.ids == 0)).any():
        return None
    ids = np.zeros_like(one.ids)
    for source, partner, mask in pairs:
        result = make(source, partner)
        ids[mask] = one.ids[mask] + numbering.first(result) - numbering.first(source)
    return Elements(ids)


def _plan(
    context: CallContext, elements: Elements, parameters: list[Array]
) -> list[tuple[str, Array, list[Array], float]] | None:
    """For each source: its elements (a mask), its parameters, and the share of it that is used.

    None where copies of one element have different parameters.
    """
    numbering = context.builder.numbering
    plan = []
    for source, mask in numbering.sources(elements.ids):
        shape = numbering.shapes[source]
        size = int(np.prod(shape))
        places = elements.ids[mask] - numbering.first(source)
        values = []
        for parameter in parameters:
            own = np.zeros(size)
            own[places] = parameter[mask]
            if not np.array_equal(own[places], parameter[mask]):
                return None
            values.append(_filled(own, places, shape))
        used = np.zeros(size, bool)
        used[places] = True
        plan.append((source, mask, values, float(used.mean())))
    return plan


def _filled(values: Array, places: Array, shape: tuple[int, ...]) -> Array:
    """The parameter of a source; unused elements get that of their channel, where it has one."""
    used = np.zeros(values.size, bool)
    used[places] = True
    planes, flags = values.reshape(shape[0], -1), used.reshape(shape[0], -1)
    low = np.where(flags, planes, np.inf).min(axis=1)
    high = np.where(flags, planes, -np.inf).max(axis=1)
    if (low[flags.any(axis=1)] == high[flags.any(axis=1)]).all():
        per_channel = np.where(flags.any(axis=1), low, 0)
        return compact(np.broadcast_to(_columns(per_channel, shape), shape))
    return compact(values.reshape(shape))


def _columns(values: Array, shape: tuple[int, ...]) -> Array:
    return values.reshape(-1, *(1,) * (len(shape) - 1))


def _for_node(values: Array, shape: tuple[int, ...]) -> Array:
    """A parameter for a node of that shape: one value, or as `compact`."""
    if np.size(values) == 1:
        return np.reshape(values, (1,) * len(shape))
    return compact(np.broadcast_to(values, shape))


def compact(values: Array) -> Array:
    """One value per channel [C, 1...], where all of a channel are the same, or all values."""
    ones = (1,) * (values.ndim - 1)
    planes = values.reshape(len(values), -1)
    if (planes == planes[:, :1]).all():
        return planes[:, 0].reshape(-1, *ones).copy()
    return np.array(values)
