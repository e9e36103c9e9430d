"""Tensors that only rearrange what nodes compute, as arrays of element numbers.

Slicing, reshaping, permuting, padding, joining, splitting and repeating compute nothing. A tensor
that such operators made is kept as an array of numbers, each of which names one value of one node's
result, or a constant. The operators themselves are applied to these arrays by PyTorch (see
rules.move), so that every spelling is right by construction; nodes are added only where a
computation follows (see gather).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Shape


@dataclass(frozen=True, eq=False)
class Elements:
    """A tensor of one sample as references to the results of nodes.

    Args:
        ids: int64 [*shape]: the number of an element (see Numbering), or 0 for a constant.
        constants: float64 [*shape], the values where ids is 0; None where they are all zero.
        batch_axis: where the model has the batch among the axes; only operators that move values or
            reduce axes take another than 0.
    """

    ids: Array
    constants: Array | None = None
    batch_axis: int = 0

    @classmethod
    def joined(cls, parts: Sequence[Elements], axis: int) -> Elements:
        """Tensors one after another along an axis."""
        ids = np.concatenate([part.ids for part in parts], axis)
        if all(part.constants is None for part in parts):
            return cls(ids)
        constants = [
            np.zeros(part.shape) if part.constants is None else part.constants for part in parts
        ]
        return cls(ids, np.concatenate(constants, axis))

    @property
    def shape(self) -> Shape:
        return self.ids.shape

    def reshape(self, *shape: int) -> Elements:
        """The elements in another shape, in row-major order."""
        return self.map(lambda array: array.reshape(shape))

    def moveaxis(self, source: int, destination: int) -> Elements:
        """The elements with one axis moved."""
        return self.map(lambda array: np.moveaxis(array, source, destination))

    def taken(self, positions: Sequence[int], axis: int) -> Elements:
        """The elements at the positions along an axis."""
        return self.map(lambda array: np.take(array, positions, axis))

    def broadcast(self, shape: Shape) -> Elements:
        """The elements repeated to a shape, as PyTorch broadcasts them."""
        if self.shape == shape:
            return self
        return self.map(lambda array: np.broadcast_to(array, shape).copy())

    def with_axis(self, axis: int) -> Elements:
        """The elements with one more axis, of length 1."""
        return self.map(lambda array: np.expand_dims(array, axis))

    def without_axis(self, axis: int) -> Elements:
        """The elements without an axis of length 1."""
        return self.map(lambda array: np.squeeze(array, axis))

    def map(self, change: Callable[[Array], Array]) -> Elements:
        """The elements rearranged by a function of arrays that fills nothing in."""
        constants = None if self.constants is None else change(self.constants)
        return Elements(change(self.ids), constants)


@dataclass
class Numbering:
    """Numbers for the elements of nodes' results: those of a node are consecutive, from 1 on."""

    names: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    _first: dict[str, int] = field(default_factory=dict)
    _next: int = 1

    def add(self, name: str, shape: Shape) -> None:
        """Number the elements of a node's result."""
        self.names.append(name)
        self.starts.append(self._next)
        self.shapes[name] = shape
        self._first[name] = self._next
        self._next += int(np.prod(shape))

    def first(self, name: str) -> int:
        """The number of the first element of a node's result."""
        return self._first[name]

    def elements(self, name: str, shape: Shape | None = None) -> Elements:
        """The result of a node, in its own shape or another one."""
        own = self.shapes[name]
        first = self._first[name]
        count = int(np.prod(own))
        return Elements(np.arange(first, first + count).reshape(own if shape is None else shape))

    def elements_of(self, result: str | Elements) -> Elements:
        """What a call computes as elements: a node's result in its own shape, or as they are."""
        return self.elements(result) if isinstance(result, str) else result

    def node_of(self, number: int) -> str:
        """The node that an element belongs to."""
        return self.names[bisect_right(self.starts, number) - 1]

    def sources(self, ids: Array) -> Iterator[tuple[str, Array]]:
        """For each node that elements belong to: its name, and where its elements are (a mask)."""
        places = np.searchsorted(self.starts, ids.reshape(-1), side="right")  # 0 for constants
        for place in np.flatnonzero(np.bincount(places, minlength=1)[1:]):
            yield self.names[place], (places == place + 1).reshape(ids.shape)

    def whole(self, elements: Elements) -> str | None:
        """The node whose complete result the elements are, in row-major order; None otherwise."""
        ids = elements.ids.reshape(-1)
        if not len(ids) or ids[0] == 0:
            return None
        name = self.node_of(int(ids[0]))
        first, count = self._first[name], int(np.prod(self.shapes[name]))
        if len(ids) != count or ids[0] != first or ids[-1] != first + count - 1:
            return None
        return name if bool((np.diff(ids) == 1).all()) else None
