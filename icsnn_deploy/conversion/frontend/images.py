"""How a layer reads rearranged elements: which nodes, which of their channels, in which phases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.conversion.frontend.builder import MAX_WEIGHTS, Builder, Result
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather import gather
from icsnn_deploy.conversion.frontend.phases import most_phases, to_phases
from icsnn_deploy.conversion.frontend.selecting import find_shift
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Shape

_MOST_DENSE = 2**25
"""Most weights, and taps for each, of a convolution along channels."""


@dataclass(frozen=True, kw_only=True)
class ReadChannels:
    """Channels that a layer reads from one node.

    Args:
        node: with an image.
        read: channels of the layer's input, [n].
        channels: the channel of the node for each of them, [n].
    """

    node: str
    read: Array
    channels: Array


def parts_of(builder: Builder, elements: Elements, wish: str) -> list[ReadChannels]:
    """The nodes that a layer reads to have these elements as its input.

    Channels that are channels of a node already are read from there; all others are gathered.
    """
    parts = whole_channels(builder, elements)
    rest = np.asarray(elements.ids.reshape(len(elements.ids), -1).any(axis=1))
    if elements.constants is not None:
        rest |= elements.constants.reshape(len(elements.ids), -1).any(axis=1)
    direct = rest.copy()
    for part in parts:
        rest[part.read] = False
    if rest.any() and not elements.ids[rest].any():  # constants alone need a node to be added to
        parts, rest = [], direct
    if rest.any():
        read = np.flatnonzero(rest)
        node = gather(builder, elements.map(lambda array: array[read]), wish)
        parts.append(ReadChannels(node=node, read=read, channels=np.arange(len(read))))
    return sorted(parts, key=lambda part: int(part.read[0]))


def whole_channels(builder: Builder, elements: Elements) -> list[ReadChannels]:
    """The channels of the elements that are channels of a node, as they are."""
    count = len(elements.ids)
    planes = elements.ids.reshape(count, -1)
    first, plane = planes[:, 0], planes.shape[1]
    consecutive = (planes == first[:, None] + np.arange(plane)).all(axis=1) & (first > 0)
    parts = []
    for node, mask in builder.numbering.sources(np.where(consecutive, first, 0)):
        places = first - builder.numbering.first(node)
        read = np.flatnonzero(mask & (places % plane == 0))
        if len(read) and builder.shapes[node][1:] == elements.shape[1:]:
            parts.append(ReadChannels(node=node, read=read, channels=places[read] // plane))
    return parts


def all_channels(builder: Builder, elements: Elements) -> list[ReadChannels] | None:
    """The nodes whose channels the elements are, all of each in any order; None otherwise."""
    parts = whole_channels(builder, elements)
    count = sum(len(part.read) for part in parts)
    complete = all(len(np.unique(p.channels)) == builder.shapes[p.node][0] for p in parts)
    return parts if count == len(elements.ids) and complete else None


def on_nodes(
    builder: Builder, elements: Elements, make: Callable[[str], Result]
) -> Elements | None:
    """Apply a computation of single channels to the nodes that the elements are made of.

    None where the elements are not all channels of each of these nodes, in any order.

    Args:
        builder: of the graph.
        elements: [C, *S].
        make: takes a node, and returns the result with the same channels.
    """
    parts = all_channels(builder, elements)
    if parts is None:
        return None
    ids: Array | None = None
    for part in sorted(parts, key=lambda part: int(part.read[0])):
        result = make(part.node)
        made = builder.numbering.elements_of(result)
        if made.constants is not None:
            return None
        if ids is None:
            ids = np.zeros((len(elements.ids), *made.shape[1:]), np.int64)
        ids[part.read] = made.ids[part.channels]
    return None if ids is None else Elements(ids)


def is_regular(builder: Builder, elements: Elements, *, holes: bool = False) -> bool:
    """Whether one convolution per source selects the elements.

    Args:
        builder: of the graph.
        elements: [C, *S].
        holes: whether zeros may lie where the regular convolution would read values.
    """
    for source, mask in builder.numbering.sources(elements.ids):
        shape = builder.shapes[source]
        if len(shape) != len(elements.shape):
            return False
        positions = np.where(mask, elements.ids - builder.numbering.first(source), -1)
        if find_shift(positions, shape, holes=holes) is None:
            return False
    return True


def choose_phases(builder: Builder, elements: Elements, weights: int, outputs: int = 0) -> Shape:
    """The phases, per axis, in which the elements are an image of whole channels, or shifted ones.

    1 along each axis where there are none, or more than layers are computed in (most_phases).

    Args:
        builder: of the graph.
        elements: [C, *S].
        weights: of the layer that reads them, as the model has it; in r phases it has up to r^2
            times as many, and may have MAX_WEIGHTS.
        outputs: channels of its result.
    """
    axes = len(elements.shape) - 1
    options = [{1} for _ in range(axes)]
    for source, _ in builder.numbering.sources(elements.ids):
        shape = builder.shapes[source]
        if len(shape) == axes + 1:
            for axis in range(axes):
                options[axis].add(-(-elements.shape[axis + 1] // shape[axis + 1]))
    candidates = sorted(itertools.product(*map(sorted, options)), key=lambda r: (np.prod(r), r))
    most = most_phases(len(elements.ids))
    if outputs == 1 and _is_signal_over_channels(builder, elements):
        most = max(most, math.isqrt(_MOST_DENSE // weights))
    most = min(most, math.isqrt(MAX_WEIGHTS // weights))
    allowed = [r for r in candidates if np.prod(r) <= most]
    for holes in (False, True):
        for phases in allowed:
            if is_regular(builder, to_phases(elements, phases), holes=holes):
                return phases
    return (1,) * axes


def _is_signal_over_channels(builder: Builder, elements: Elements) -> bool:
    """Whether a signal of one channel lies along the channels of nodes of one position.

    A convolution of it (efficient channel attention) is a matrix over these channels.
    """
    count, *lengths = elements.shape
    shapes = [builder.shapes[source] for source, _ in builder.numbering.sources(elements.ids)]
    in_channels = all(len(shape) > 1 and math.prod(shape[1:]) == 1 for shape in shapes)
    return count == 1 and sum(n > 1 for n in lengths) == 1 and in_channels


def lifted(builder: Builder, elements: Elements) -> int | None:
    """The axis of length 1 to insert, so that a signal [C, L] is an image like its sources.

    None where the elements have as many axes as their sources.
    """
    if len(elements.shape) != 2:
        return None
    shapes = [builder.shapes[source] for source, _ in builder.numbering.sources(elements.ids)]
    if not shapes or any(len(shape) != 3 for shape in shapes):
        return None
    return 2 if all(shape[2] == 1 for shape in shapes) else 1


def as_image(builder: Builder, elements: Elements) -> Elements | None:
    """A vector as the image [F, 1, 1], where vectors are computed so; None for any other tensor."""
    if len(elements.shape) != 1 or not builder.vectors_as_images:
        return None
    sources = builder.numbering.sources(elements.ids)
    if any(len(builder.shapes[source]) == 1 for source, _ in sources):
        return None
    return elements.reshape(*elements.shape, 1, 1)
