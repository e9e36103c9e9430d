"""The output of a graph from the model's outputs: one node, and where each value lies in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Builder, Traced, Unsupported
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather import flatten, gather
from icsnn_deploy.conversion.frontend.images import is_regular
from icsnn_deploy.graph.nodes import Output, Part, Shape

_LARGEST_FLAT = 2**13
"""Values of an image that is joined with vectors, by a fully connected layer of one-hot weights."""


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    part: Part
    elements: Elements


def output_node(builder: Builder, leaves: Mapping[str, Traced]) -> Output:
    """The Output for the model's outputs.

    A single output that is a node needs nothing else. Otherwise the nodes are joined in one, and an
    index says where the values of each output lie.

    Args:
        builder: of the graph.
        leaves: the model's outputs by name.
    """
    for name, leaf in leaves.items():
        if isinstance(leaf.value, str):
            builder.check_computed(leaf.value)
        elif leaf.value.batch_axis:
            raise Unsupported(
                got=f"output {name!r} of shape {list(leaf.shape)}, which moves the samples to axis "
                f"{leaf.value.batch_axis}",
                allowed="outputs with the batch as the first axis",
                remedy="Return the samples along the first axis.",
                node="output",
            )
    if len(leaves) == 1:
        ((name, leaf),) = leaves.items()
        natural = _natural(builder, leaf)
        if natural is not None:
            part = Part(name, leaf.shape[1:], leaf.host_op)
            parts = (part,) if leaf.host_op or name != "output" else ()
            return Output(name="output", inputs=(natural,), parts=parts)
    found = [_leaf(builder, name, leaf) for name, leaf in leaves.items()]
    sources = list(
        dict.fromkeys(
            source for one in found for source, _ in builder.numbering.sources(one.elements.ids)
        )
    )
    joined, places = _joined(builder, sources)
    index = []
    for one in found:
        ids = one.elements.ids.reshape(-1)
        own = np.zeros(len(ids), np.int64)
        for source, mask in builder.numbering.sources(ids):
            own[mask] = places[source][ids[mask] - builder.numbering.first(source)]
        index.append(own)
    return Output(
        name="output",
        inputs=(joined,),
        index=np.concatenate(index),
        parts=tuple(one.part for one in found),
    )


def _natural(builder: Builder, leaf: Traced) -> str | None:
    """A node whose result is the output as it is; None where the host has to rearrange one.

    A flattened one gets a Flatten, a part of one a layer that selects it.
    """
    if isinstance(leaf.value, str):
        return leaf.value
    if builder.vectors_as_images:
        return None
    vector = len(leaf.shape) == 2
    if vector and builder.numbering.whole(leaf.value) is None:
        sources = list(builder.numbering.sources(leaf.value.ids))
        if len(sources) > 1 or len(builder.shapes[sources[0][0]]) > 1:
            return None
    elif not vector and not is_regular(builder, leaf.value):
        return None
    try:
        return gather(builder, leaf.value, leaf.origin)
    except Unsupported:
        return None


def _leaf(builder: Builder, name: str, leaf: Traced) -> _Leaf:
    """One output; constants in it are added by a node."""
    elements = builder.numbering.elements_of(leaf.value)
    if not (elements.ids > 0).all():
        elements = builder.numbering.elements(gather(builder, elements, leaf.origin))
    return _Leaf(part=Part(name, leaf.shape[1:], leaf.host_op), elements=elements)


def _joined(builder: Builder, sources: Sequence[str]) -> tuple[str, dict[str, np.ndarray]]:
    """One node with the results of all sources, and where each of their values lies in it."""
    if len(sources) == 1:
        size = math.prod(builder.shapes[sources[0]])
        return sources[0], {sources[0]: np.arange(size)}
    ranks = {len(builder.shapes[source]) for source in sources}
    if len(ranks) > 1:
        return _joined_vectors(builder, [_flat(builder, source) for source in sources], sources)
    if ranks == {1}:
        return _joined_vectors(builder, list(sources), sources)
    return _joined_images(builder, sources)


def _flat(builder: Builder, source: str) -> str:
    size = math.prod(builder.shapes[source])
    if len(builder.shapes[source]) > 1 and size > _LARGEST_FLAT:
        raise Unsupported(
            got=f"outputs of vectors and of an image {list(builder.shapes[source])} ({source})",
            allowed=f"vectors, images of any size, or both if the images have at most "
            f"{_LARGEST_FLAT:,} values",
            remedy="Convert the model once for each output.",
            node="output",
        )
    return flatten(builder, source, f"{source}.flatten")


def _joined_vectors(
    builder: Builder, vectors: Sequence[str], sources: Sequence[str]
) -> tuple[str, dict[str, np.ndarray]]:
    ids = np.concatenate([builder.numbering.elements(vector).ids for vector in vectors])
    begins = np.cumsum([0, *(builder.shapes[vector][0] for vector in vectors)])
    places = {
        source: begin + np.arange(builder.shapes[vector][0])
        for source, vector, begin in zip(sources, vectors, begins[:-1], strict=True)
    }
    return gather(builder, Elements(ids), "outputs"), places


def _joined_images(builder: Builder, sources: Sequence[str]) -> tuple[str, dict[str, np.ndarray]]:
    """Images side by side along the channels; smaller ones are padded with zeros."""
    shapes = [builder.shapes[source] for source in sources]
    lengths = tuple(int(n) for n in np.max([shape[1:] for shape in shapes], axis=0))
    total: Shape = (sum(shape[0] for shape in shapes), *lengths)
    numbers = np.arange(math.prod(total)).reshape(total)
    ids, places, begin = np.zeros(total, np.int64), {}, 0
    for source, shape in zip(sources, shapes, strict=True):
        where = (slice(begin, begin + shape[0]), *(slice(n) for n in shape[1:]))
        ids[where] = builder.numbering.elements(source).ids
        places[source] = numbers[where].reshape(-1)
        begin += shape[0]
    return gather(builder, Elements(ids), "outputs"), places
