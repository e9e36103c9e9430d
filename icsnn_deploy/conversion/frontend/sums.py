"""Sums of rearranged tensors: each is computed in the layout of one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Result, Traced, Unsupported
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather import gather
from icsnn_deploy.conversion.frontend.images import as_image
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Shape
from icsnn_deploy.passes.affine import pure_scale


def add_elements(context: CallContext, x: Traced, other: Traced, alpha: float = 1) -> Result:
    """x + alpha * other, broadcast as PyTorch does."""
    shape = tuple(context.shape[1:])
    both = (x, other)
    if all(isinstance(one.value, str) and one.shape[1:] == shape for one in both):
        name = context.name()
        second = _scaled(context, str(other.value), alpha)
        return context.add(Add(name=name, inputs=(str(x.value), second)))
    if any(len(one.shape) != len(shape) + 1 for one in both):
        raise context.unsupported(
            f"shapes {list(x.shape)} and {list(other.shape)}",
            "tensors with the same number of axes, the batch first",
        )
    terms = [context.elements(one).broadcast(shape) for one in both]
    return sum_of(context, terms, factors=(1, alpha), wishes=(x.origin, other.origin))


def sum_of(
    context: CallContext,
    terms: Sequence[Elements],
    *,
    factors: Sequence[float] = (),
    wishes: Sequence[str] = (),
) -> Result:
    """The sum of tensors of one shape, each times a factor.

    One of them lends its layout: its node is added to nodes of the same shape, into which the
    others are gathered.

    Args:
        context: the call.
        terms: at least two.
        factors: of the terms; 1 where none are given.
        wishes: names for nodes that gather them.
    """
    builder = context.builder
    factors, wishes = factors or [1.0] * len(terms), wishes or [context.path] * len(terms)
    name = context.name()
    failed: Unsupported | None = None
    for layout in [*_layouts(context, terms), *_image_layout(context, terms), None]:
        try:
            nodes = [
                gather(builder, term if layout is None else _in_layout(term, *layout), wish)
                for term, wish in zip(terms, wishes, strict=True)
            ]
        except Unsupported as error:
            failed = failed or error
            continue
        inputs = tuple(_scaled(context, node, f) for node, f in zip(nodes, factors, strict=True))
        result = context.add(Add(name=name, inputs=inputs))
        if layout is None:
            return result
        positions, _ = layout
        return Elements(builder.numbering.elements(result).ids.reshape(-1)[positions])
    assert failed is not None
    raise failed


def _layouts(context: CallContext, terms: Sequence[Elements]) -> list[tuple[Array, Shape]]:
    """Layouts of terms that are one node each, the coarsest first.

    Each is the position in the node of every element, and the shape of the node.
    """
    numbering = context.builder.numbering
    found: dict[bytes, tuple[Array, Shape]] = {}
    for term in terms:
        sources = list(numbering.sources(term.ids))
        if len(sources) != 1 or not (term.ids > 0).all():
            continue
        (source, _), shape = sources[0], numbering.shapes[sources[0][0]]
        positions = term.ids - numbering.first(source)
        if len(np.unique(positions)) != positions.size:
            continue
        if shape == term.shape and numbering.whole(term) == source and len(terms) > 1:
            continue  # the natural layout, which is tried last
        found[positions.tobytes() + str(shape).encode()] = positions, shape
    return sorted(found.values(), key=lambda layout: -layout[1][0])


def _image_layout(context: CallContext, terms: Sequence[Elements]) -> list[tuple[Array, Shape]]:
    """The layout [F, 1, 1] of vectors, where vectors are computed so."""
    images = [as_image(context.builder, term) for term in terms]
    shapes = [one.shape for one in images if one is not None]
    return [(np.arange(shapes[0][0]), shapes[0])] if len(shapes) == len(terms) else []


def _in_layout(term: Elements, positions: Array, shape: Shape) -> Elements:
    """The elements at their positions in a node of that shape; zero where there is none."""

    def placed(array: Array) -> Array:
        result = np.zeros(int(np.prod(shape)), array.dtype)
        result[positions.reshape(-1)] = array.reshape(-1)
        return result.reshape(shape)

    return term.map(placed)


def _scaled(context: CallContext, source: str, factor: float) -> str:
    if factor == 1:
        return source
    every = np.full((1,) * len(context.builder.shapes[source]), factor)
    return context.add(pure_scale(context.name("scale"), source, every))
