"""Apply an elementwise computation to rearranged elements: to the nodes that they come from.

    f(rearranged x) = rearranged f(x)

So a rectifier after a concatenation, a channel shuffle or an upsampling is computed once per value
of the network, before the rearrangement, and no layer is needed to rearrange anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Result, Storage, Traced, Unsupported
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.images import as_image
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
    plan = _plan(context, elements, every)
    if plan is None or min((used for *_, used in plan), default=1) < _LEAST_USED:
        try:
            return _on_gathered(context, x, elements, make, every)
        except Unsupported:
            if plan is None:
                raise
    ids = np.zeros_like(elements.ids)
    for source, mask, values, _ in plan or ():
        own = (
            np.reshape(one, (1,) * value.ndim) if np.size(one) == 1 else value
            for one, value in zip(parameters, values, strict=True)
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


def _on_gathered(
    context: CallContext, x: Traced, elements: Elements, make: Make, parameters: Sequence[Array]
) -> Result:
    """The computation on one node of all elements."""
    image = vector_as_image(context, x)
    if image is None:
        node = context.source(x)
        return make(node, *(_for_node(one, elements.shape) for one in parameters))
    node, shape = context.source(image), image.shape[1:]
    found = make(node, *(_for_node(one.reshape(shape), shape) for one in parameters))
    return context.builder.numbering.elements(found, elements.shape)


def vector_as_image(context: CallContext, x: Traced) -> Traced | None:
    """A vector as [B, F, 1, 1] where vectors are computed as images; None for any other tensor."""
    lifted = as_image(context.builder, context.elements(x))
    if lifted is None:
        return None
    return Traced(lifted, (x.shape[0], *lifted.shape), x.dtype, x.origin, Storage())


def push_alike(
    context: CallContext,
    tensors: Sequence[Traced],
    make: Callable[..., str],
    constant: Callable[..., Array],
) -> Elements | None:
    """Apply a computation of several values to tensors that are arranged alike, otherwise None.

    Args:
        context: the call.
        tensors: of one shape.
        make: takes a node of each, of one shape; returns the node that computes the result.
        constant: the computation on their constants, arrays of their shape without the batch.
    """
    numbering = context.builder.numbering
    first, *others = (context.elements(one) for one in tensors)
    if any(other.shape != first.shape for other in others):
        return None
    if any(((other.ids == 0) != (first.ids == 0)).any() for other in others):
        return None
    groups = []
    for source, mask in numbering.sources(first.ids):
        places = first.ids[mask] - numbering.first(source)
        nodes = [source]
        for other in others:
            partners = [name for name, _ in numbering.sources(np.where(mask, other.ids, 0))]
            name = partners[0]
            alike = len(partners) == 1 and numbering.shapes[name] == numbering.shapes[source]
            if not alike or (other.ids[mask] - numbering.first(name) != places).any():
                return None
            nodes.append(name)
        groups.append((nodes, mask, places))
    if not groups:
        return None
    ids = np.zeros_like(first.ids)
    for nodes, mask, places in groups:
        ids[mask] = places + numbering.first(make(*nodes))
    if ids.all():
        return Elements(ids)
    given = (
        np.zeros(one.shape) if one.constants is None else one.constants for one in (first, *others)
    )
    constants = np.where(ids == 0, constant(*given), 0)
    return Elements(ids, constants if constants.any() else None)


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
