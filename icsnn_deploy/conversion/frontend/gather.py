r"""Compute a tensor of rearranged elements as one node, by layers that only select.

One convolution of one-hot weights selects channels, shifts, strides and pads:

    x --> conv (one-hot) --> elements

Where that is not enough (reflected borders, repeated rows), the axes are rearranged one after the
other (see gather_axis). Elements of several nodes are placed and added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Builder, Unsupported
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather_axis import gather_axis
from icsnn_deploy.conversion.frontend.inputs import rearranged_input
from icsnn_deploy.conversion.frontend.nonnegative import is_nonnegative
from icsnn_deploy.conversion.frontend.selecting import (
    coordinates_of,
    find_shift,
    one_hot_linear,
    shift_conv,
)
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Conv, Flatten, Relu


def gather(builder: Builder, elements: Elements, wish: str) -> str:
    """A node that computes the elements, in their shape.

    Args:
        builder: of the graph.
        elements: of one sample.
        wish: name of the node, where it is free.

    Raises:
        Unsupported: no node can compute them, or only with too many layers or weights.
    """
    whole = builder.numbering.whole(elements)
    if whole is not None and builder.shapes[whole] == elements.shape:
        return whole
    if whole is not None and len(elements.shape) == 1:
        return flatten(builder, whole, wish)
    constants = b"" if elements.constants is None else _digest(elements.constants)
    key = (elements.shape, _digest(elements.ids), constants)
    if key not in builder.gathered:
        before = len(builder.nodes)
        try:
            builder.gathered[key] = _relayed(builder, elements, wish)
        except Unsupported:
            _look_for_layout(builder, elements)
            raise
        if len(builder.nodes) > before + 2 and _look_for_layout(builder, elements):
            raise Unsupported(
                got=f"{wish}: a rearranged input of shape {list(elements.shape)}",
                allowed="the input in a layout that layers can read",
                remedy="Rearrange it before the network.",
            )
    return builder.gathered[key]


def _relayed(builder: Builder, elements: Elements, wish: str) -> str:
    """The node that computes the elements, and a rectifier where it is put together from pieces.

    That is where the pieces read several channels each, and their values are never negative. The
    rectifier changes no value. On the integer lattice each channel has a unit of its own, so that
    such a piece is rounded, and the next layer would read sums of weights; so it reads spikes.
    """
    before = len(builder.nodes)
    sources = [
        (name, np.where(mask, elements.ids - builder.numbering.first(name), -1))
        for name, mask in builder.numbering.sources(elements.ids)
    ]
    name = _selected(builder, elements, sources, wish)
    made = list(builder.nodes.values())[before:]
    regular = len(made) <= len(sources) + 1  # a layer for each source, and a sum
    mixed = any(isinstance(node, Conv) and node.weight.shape[1] > 1 for node in made)
    if regular or not mixed or not is_nonnegative(builder.nodes, name, builder.functions):
        return name
    return builder.add(Relu(name=builder.name(f"{wish}.relay"), inputs=(name,)))


def _look_for_layout(builder: Builder, elements: Elements) -> bool:
    """Note another layout of the model's inputs with which these elements can be computed.

    Returns:
        Whether an input is to be rearranged by the host.
    """
    numbering, layout = builder.numbering, builder.layout
    found = rearranged_input(numbering, builder.input, elements)
    if found is not None:
        name, order = found
        shapes = [part.shape for part in builder.input.parts if part.name == name]
        if order.shape in (shapes or [builder.input.shape]):
            return False  # samples in either order would look alike
        if any(own == name for own, _, _ in layout.rearranged):
            return False
        builder.better_layout = layout.with_input(name, order.shape, order)
        return True
    if len(elements.shape) > 1 and not layout.vectors_as_images:
        vectors = [len(numbering.shapes[s]) == 1 for s, _ in numbering.sources(elements.ids)]
        if any(vectors) and builder.better_layout is None:
            builder.better_layout = replace(layout, vectors_as_images=True)
    return False


def flatten(builder: Builder, source: str, wish: str) -> str:
    """The result of a node as a vector."""
    if len(builder.shapes[source]) == 1:
        return source
    if source not in builder.flattened:
        node = Flatten(name=builder.name(wish), inputs=(source,))
        builder.flattened[source] = builder.add(node)
    return builder.flattened[source]


def _digest(array: Array) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


def _selected(
    builder: Builder, elements: Elements, sources: Sequence[tuple[str, Array]], wish: str
) -> str:
    """The elements of the sources, each with the positions that are read, and the constants."""
    if not sources:
        raise Unsupported(
            got=f"{wish}: a tensor of constants alone",
            allowed="tensors that depend on the input",
            remedy="Compute it outside the network.",
        )
    shift = elements.constants is not None and bool(elements.constants.any())
    name = builder.name(wish)
    several = len(sources) > 1
    summed = builder.name(f"{name}.sum") if several and shift else name
    parts = []
    for source, positions in sources:
        own = builder.name(f"{name}.part") if several or shift else name
        parts.append(_from_one(builder, source, positions, own))
    result = builder.add(Add(name=summed, inputs=tuple(parts))) if several else parts[0]
    return _shifted(builder, result, elements, name) if shift else result


def _shifted(builder: Builder, source: str, elements: Elements, name: str) -> str:
    """Add the constants."""
    assert elements.constants is not None
    constants = np.where(elements.ids == 0, elements.constants, 0)
    if not np.isfinite(constants).all():
        raise Unsupported(
            got=f"{name}: a constant that is not finite",
            allowed="finite constants",
            remedy="Pad with the padding of the pooling, or with a finite value.",
        )
    ones = (1,) * (constants.ndim - 1)
    lowest = constants.reshape(len(constants), -1).min(axis=1)
    if np.array_equal(lowest, constants.reshape(len(constants), -1).max(axis=1)):
        constants = lowest.reshape(-1, *ones)
    scale = np.ones((1, *ones), np.float32)
    return builder.add(
        ChannelAffine(name=name, inputs=(source,), scale=scale, shift=constants.astype(np.float32))
    )


def _from_one(builder: Builder, source: str, positions: Array, name: str) -> str:
    """The elements of one node, in the shape of `positions`."""
    shape = builder.shapes[source]
    if positions.ndim == 1:
        vector = flatten(builder, source, f"{name}.flatten")
        return one_hot_linear(builder, vector, positions, name)
    if len(shape) != positions.ndim or positions.ndim > 3:
        raise Unsupported(
            got=f"{name}: a tensor of shape {list(positions.shape)} from one of {list(shape)}",
            allowed="reshaping that keeps the spatial axes, or flattens",
            remedy="Keep the number of spatial axes, or flatten to [B, features].",
        )
    shift = find_shift(positions, shape)
    if shift is not None:
        return shift_conv(builder, source, shift, positions.shape[1:], name)
    return _axis_by_axis(builder, source, positions, name)


def _axis_by_axis(builder: Builder, source: str, positions: Array, name: str) -> str:
    """Rearrange one spatial axis after the other.

    Along an axis, each line of the result that is read from one line of the source is a program: a
    sequence of channels and places. Lines with the same program become one channel.
    """
    channels, *lengths = builder.shapes[source]
    if positions.ndim == 2:
        return gather_axis(builder, source, 0, positions, name)
    found = positions >= 0
    channel, row, column = coordinates_of(positions, (channels, *lengths))
    lines = np.where(found, column, -1).max(axis=1)  # [K, P2], the source column of each line
    if (found & (column != lines[:, None])).any():
        raise _not_separable(name)
    codes = np.where(found, channel * lengths[0] + row, -1).transpose(0, 2, 1)  # [K, P2, P1]
    used = lines >= 0
    programs, inverse = np.unique(codes[used], axis=0, return_inverse=True)
    order = np.argsort(_first_places(inverse.reshape(-1), len(programs)))  # as in the result
    rank = np.argsort(order)
    first = builder.name(f"{name}.rows")
    between = gather_axis(builder, source, 0, programs[order], first)
    final = np.full(lines.shape, -1)
    final[used] = rank[inverse.reshape(-1)] * lengths[1] + lines[used]
    return gather_axis(builder, between, 1, final, name)


def _first_places(inverse: Array, count: int) -> Array:
    first = np.full(count, len(inverse), np.int64)
    np.minimum.at(first, inverse, np.arange(inverse.size))
    return first


def _not_separable(name: str) -> Unsupported:
    return Unsupported(
        got=f"{name}: a rearrangement of positions that mixes the two spatial axes",
        allowed="one that treats rows and columns apart",
        remedy="Do not swap or merge the spatial axes.",
    )
