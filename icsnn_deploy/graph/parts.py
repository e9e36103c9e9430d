"""Parts: the model's own inputs and outputs, as an Input or Output node records them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.limits import MAX_VALUES, check_result
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.node import Shape, is_integer
from icsnn_deploy.outside_json import is_text


class Part(NamedTuple):
    """One of the model's inputs or outputs: its name, and its shape without the batch.

    Attributes:
        name: as the model calls it; unique among the parts.
        shape: of the model's tensor; () for one number per sample.
        host_op: of an output, the last operation of the model that is left to the host ("softmax",
            "sigmoid", "tanh", "argmax", ...); empty where there is none.
    """

    name: str
    shape: Shape
    host_op: str = ""

    @property
    def size(self) -> int:
        """Number of values of one sample."""
        return math.prod(self.shape)


def checked_parts(node: str, value: Any) -> tuple[Part, ...]:
    """The parts of a node, from Part objects or from lists as files have them.

    Args:
        node: name of the Input or Output.
        value: as it was given.

    Raises:
        GraphError: anything but parts, a name that occurs twice, or too many values.
    """
    if not isinstance(value, (tuple, list)):
        raise GraphError(f"{node}.parts: {value!r:.100}, a list of parts is needed")
    parts = tuple(_part(node, part) for part in value)
    names: set[str] = set()
    for part in parts:
        if part.name in names:
            raise GraphError(f"{node}.parts: the name {part.name!r:.100} occurs twice, once needed")
        names.add(part.name)
    if sum(part.size for part in parts) > MAX_VALUES:
        raise GraphError(f"{node}.parts: more than {MAX_VALUES:,} values; use smaller tensors")
    return parts


def checked_index(node: str, parts: tuple[Part, ...], index: Array, *, least: int) -> Array:
    """The index of a node as int64.

    Args:
        node: name of the Input or Output.
        parts: of the node.
        index: integers of any type.
        least: the smallest entry that is allowed.

    Raises:
        GraphError: no parts, or no positions from `least` on.
    """
    if not parts:
        raise GraphError(f"{node}: an index needs parts")
    if index.dtype.kind != "i" or index.min() < least:
        raise GraphError(
            f"{node}.index: {index.dtype} from {index.min()} on, integers from {least} on are "
            "needed"
        )
    positions: Array = index.astype(np.int64)
    positions.setflags(write=False)
    return positions


def require_whole(node: str, parts: tuple[Part, ...], shape: Shape) -> None:
    """Raise GraphError unless the parts of a node without an index are one of as many values."""
    if len(parts) > 1:
        raise GraphError(f"{node}: {len(parts)} parts need an index")
    if parts and parts[0].size != math.prod(shape):
        raise GraphError(
            f"{node}.parts: {parts[0].name!r:.100} of shape {parts[0].shape} in a node of shape "
            f"{shape}; without an index both need the same number of values"
        )


def _part(node: str, value: Any) -> Part:
    good = isinstance(value, (tuple, list)) and len(value) in (2, 3)
    name, shape, host_op = (*value, "")[:3] if good else ("", (), "")
    good = isinstance(name, str) and name != "" and isinstance(host_op, str)
    if good and not is_text(name + host_op):
        raise GraphError(f"{node}.parts: {value!r:.100}: half of a surrogate pair; rename it")
    if not (good and isinstance(shape, (tuple, list)) and all(is_integer(n, 1) for n in shape)):
        raise GraphError(f"{node}.parts: {value!r:.100}, a name, a shape and a host_op needed")
    check_result(f"{node}.parts: {name!r:.100}", shape)
    return Part(name, tuple(shape), host_op)
