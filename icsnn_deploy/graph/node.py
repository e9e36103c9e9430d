"""The base class of every node: a name, sources, and parameters that are checked and frozen."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.outside_json import is_text

Shape = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

_DTYPES = ("float32", "int8", "int16", "int32", "int64")


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseNode:
    """One operation: a unique name, the names of its sources, and parameters that never change.

    A subclass sets `kind`, declares its parameters as fields, and overrides `_check`,
    `output_shape` and, unless it takes exactly one source, `_arity`.

    Attributes:
        kind: what the node is called in files and messages.
        optional: fields that may be None or empty; files and hashes leave those out.
        half_integers: array fields that hold integers plus one half in an integer network; all
            others hold integers.
        host_arrays: array fields that the host uses before or after the network, which does not
            compute with them.
        name: unique in a graph; no "/".
        inputs: names of the sources, in order.
    """

    kind: ClassVar[str]
    optional: ClassVar[frozenset[str]] = frozenset()
    half_integers: ClassVar[frozenset[str]] = frozenset()
    host_arrays: ClassVar[frozenset[str]] = frozenset()

    name: str
    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or "/" in self.name:
            raise GraphError(f"node name {self.name!r}: a non-empty string without '/' is needed")
        if not is_text(self.name):
            raise GraphError(f"node name {self.name!r}: half of a surrogate pair; rename the node")
        sources = tuple(self.inputs)
        if not all(isinstance(source, str) for source in sources):
            raise GraphError(f"{self.name}: inputs must be node names, got {self.inputs!r}")
        object.__setattr__(self, "inputs", sources)
        least, most = self._arity()
        if not least <= len(sources) <= most:
            wanted = str(least) if least == most else f"at least {least}"
            raise GraphError(f"{self.name} ({self.kind}): {len(sources)} inputs, {wanted} needed")
        self._check()

    def _arity(self) -> tuple[int, int]:
        """Least and largest number of sources."""
        return 1, 1

    def _check(self) -> None:
        """Check and freeze the parameters; raises GraphError."""

    def output_shape(self, *sources: Shape) -> Shape:
        """Shape of the result for the sources' shapes; raises GraphError if they do not fit."""
        return sources[0]

    def arrays(self) -> dict[str, Array]:
        """The array fields by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def parameters(self) -> dict[str, Array]:
        """The arrays that the network computes with, by field name: all but host_arrays."""
        return {name: a for name, a in self.arrays().items() if name not in self.host_arrays}

    @cached_property
    def is_integer(self) -> bool:
        """Whether all arrays hold integers, those of half_integers integers plus one half."""
        return all(
            bool((value.astype(np.float64) % 1 == 0.5).all())
            if field in self.half_integers
            else value.dtype.kind == "i"
            for field, value in self.arrays().items()
        )

    def _array(self, field: str, rank: int | None = None) -> Array:
        """Freeze an array field: C order, read only, an allowed type, finite; returns it."""
        value = np.array(getattr(self, field), order="C", copy=True)
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        if value.dtype.name not in _DTYPES:
            raise GraphError(f"{self.name}.{field}: type {value.dtype}, allowed {_DTYPES}")
        if (rank is not None and value.ndim != rank) or value.ndim == 0 or value.size == 0:
            wanted = f"rank {rank}" if rank is not None else "rank 1 or more"
            raise GraphError(f"{self.name}.{field}: shape {value.shape}, {wanted} needed")
        if not np.isfinite(value).all():
            raise GraphError(f"{self.name}.{field}: not finite (NaN, infinity, or beyond float32)")
        value.setflags(write=False)
        object.__setattr__(self, field, value)
        return value

    def _integers(self, field: str, least: int) -> tuple[int, ...]:
        """Freeze a tuple of integers, each at least `least`; returns it."""
        value = getattr(self, field)
        if not isinstance(value, (tuple, list)) or not all(is_integer(n, least) for n in value):
            raise GraphError(f"{self.name}.{field}: {value!r}, integers >= {least} needed")
        frozen = tuple(int(n) for n in value)
        object.__setattr__(self, field, frozen)
        return frozen

    def _pairs(self, field: str) -> Pairs:
        """Freeze a tuple of (before, after) paddings; returns it."""
        value = getattr(self, field)
        good = isinstance(value, (tuple, list)) and all(
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and all(is_integer(n, 0) for n in pair)
            for pair in value
        )
        if not good:
            raise GraphError(f"{self.name}.{field}: {value!r}, pairs of integers >= 0 needed")
        frozen = tuple((int(pair[0]), int(pair[1])) for pair in value)
        object.__setattr__(self, field, frozen)
        return frozen

    def _broadcasts(self, field: str, shape: Shape) -> None:
        """Check that an array field is one value, one per channel, or one per neuron of `shape`."""
        got = getattr(self, field).shape
        allowed = broadcast_shapes(shape)
        if got not in allowed:
            wanted = " or ".join(str(one) for one in allowed)
            raise GraphError(f"{self.name}.{field}: shape {got}, allowed {wanted}")


def broadcast_shapes(shape: Shape) -> tuple[Shape, ...]:
    """The parameter shapes a population of `shape` takes: per layer, per channel, per neuron."""
    rest = (1,) * (len(shape) - 1)
    return tuple(dict.fromkeys([(1, *rest), (shape[0], *rest), shape]))


def window_positions(
    name: str, shape: Shape, kernel: Shape, stride: Shape, padding: Pairs, dilation: Shape
) -> Shape:
    """Number of window positions along each spatial axis.

    Args:
        name: of the node, for the message.
        shape: length of each spatial axis; the others have one entry per axis likewise.

    Raises:
        GraphError: a window that does not fit.
    """
    result = []
    for axis, length in enumerate(shape):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        room = length + sum(padding[axis]) - reach
        if room < 0:
            raise GraphError(
                f"{name}: a window of {reach} does not fit the padded length "
                f"{length + sum(padding[axis])} of spatial axis {axis}"
            )
        result.append(room // stride[axis] + 1)
    return tuple(result)


def is_integer(value: Any, least: int) -> bool:
    """Whether a value is an int, not a bool, and at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_positive(value: Any) -> bool:
    """Whether a value is a number above zero that a float can hold."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and 0 < value <= sys.float_info.max
