"""The input of a graph from the model's inputs: one node, in a layout that its layers can read.

A single input keeps its shape where that works. Where the model first rearranges it in a way that
no layer can (adds an axis, swaps axes), the host does that instead, once: the graph takes the
rearranged input. Several inputs are packed side by side along the channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.conversion.frontend.elements import Elements, Numbering
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input, Part, Shape


@dataclass(frozen=True)
class InputLayout:
    """How the model's inputs are laid out, where that is not their own shape.

    Args:
        rearranged: for some inputs the shape, and the flat position in the model's tensor of each
            value, as bytes of int64.
        vectors_as_images: whether vectors are images of one position, [F, 1, 1].
    """

    rearranged: tuple[tuple[str, Shape, bytes], ...] = ()
    vectors_as_images: bool = False

    def with_input(self, name: str, shape: Shape, order: Array) -> InputLayout:
        """The layout with one input rearranged."""
        others = tuple(entry for entry in self.rearranged if entry[0] != name)
        entry = (name, shape, np.ascontiguousarray(order, np.int64).tobytes())
        return replace(self, rearranged=(*others, entry))

    def of(self, name: str, shape: Shape) -> Array:
        """The flat positions in the model's tensor, in the shape of its layout."""
        for own, other, order in self.rearranged:
            if own in (name, ""):
                return np.frombuffer(order, np.int64).reshape(other)
        positions = np.arange(math.prod(shape)).reshape(shape)
        if self.vectors_as_images and len(shape) == 1:
            return positions.reshape(*shape, 1, 1)
        return positions


def input_node(shapes: Mapping[str, Shape], layout: InputLayout) -> Input:
    """The Input for the model's inputs, by name with their shapes without the batch."""
    if len(shapes) == 1:
        ((name, shape),) = shapes.items()
        order = layout.of(name, shape)
        if order.shape == shape and np.array_equal(order.reshape(-1), np.arange(order.size)):
            return Input(name="input", shape=shape)
        return Input(name="input", shape=order.shape, index=order, parts=(Part(name, shape),))
    orders, begin = [], 0
    for name, shape in shapes.items():
        orders.append(layout.of(name, shape) + begin)
        begin += math.prod(shape)
    axes = max(order.ndim for order in orders)
    grid = tuple(
        max((order.shape[-axes + 1 + axis] for order in orders if order.ndim == axes), default=1)
        for axis in range(axes - 1)
    )
    index = np.concatenate([_on_grid(order, grid) for order in orders])
    parts = tuple(Part(name, shape) for name, shape in shapes.items())
    return Input(name="input", shape=index.shape, index=index, parts=parts)


def _on_grid(order: Array, grid: Shape) -> Array:
    """An input's positions on a grid of its own or of larger size; -1 where there is none.

    One with fewer axes fills whole channels, in row-major order.
    """
    if order.ndim == len(grid) + 1:
        rest = [(0, n - own) for n, own in zip(grid, order.shape[1:], strict=True)]
        return np.pad(order, [(0, 0), *rest], constant_values=-1)
    plane = math.prod(grid)
    flat = order.reshape(-1)
    filled = np.pad(flat, (0, -len(flat) % plane), constant_values=-1)
    return filled.reshape(-1, *grid)


def input_values(numbering: Numbering, node: Input) -> dict[str, str | Elements]:
    """The values of the model's inputs, by name: the node itself, or its elements."""
    if node.index is None:
        return {}
    first = numbering.first(node.name)
    order = node.index.reshape(-1)
    ids = np.zeros(int(order.max()) + 1, np.int64)
    taken = np.flatnonzero(order >= 0)
    ids[order[taken]] = first + taken
    values: dict[str, str | Elements] = {}
    begin = 0
    for part in node.parts:
        end = begin + math.prod(part.shape)
        values[part.name] = Elements(ids[begin:end].reshape(part.shape))
        begin = end
    return values


def rearranged_input(
    numbering: Numbering, node: Input, elements: Elements
) -> tuple[str, Array] | None:
    """The model's input that the elements are, each value once, and its order; None otherwise.

    The name is empty for the only input.

    Args:
        numbering: of the graph.
        node: the Input.
        elements: that no layer can compute.
    """
    if (elements.ids == 0).any():
        return None
    places = elements.ids - numbering.first(node.name)
    if places.min() < 0 or places.max() >= math.prod(node.shape):
        return None
    parts: tuple[Part, ...] = (Part("", node.shape),)
    order = places
    if node.index is not None:
        parts, order = node.parts, node.index.reshape(-1)[places]
    begin = 0
    for part in parts:
        size = math.prod(part.shape)
        own = order - begin
        if own.size == size and np.array_equal(np.sort(own.reshape(-1)), np.arange(size)):
            return part.name, own
        begin += size
    return None
