"""The kinds of node a graph is made of, each with its equation, its checks and its shape rule.

Shapes leave out time and batch: an image is (C, H, W), a signal (C, L), a feature vector (F,).
Parameters that act per neuron are stored ready to broadcast: (1, 1, 1) for one value a layer,
(C, 1, 1) for one a channel, (C, H, W) for one a neuron.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.neuron import Array

Shape = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
InputDtype = Literal["float32", "uint8", "int8", "int16"]
Encoding = Literal["direct", "rate", "events"]

_DTYPES = ("float32", "int8", "int16", "int32", "int64")


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operation: a unique name, the names of its sources, and parameters that never change."""

    kind: ClassVar[str]

    name: str
    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or "/" in self.name:
            raise GraphError(f"node name {self.name!r}: a non-empty string without '/' is needed")
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
        return 1, 1

    def _check(self) -> None:
        """Check and freeze the parameters; raises GraphError."""

    def output_shape(self, *sources: Shape) -> Shape:
        """Shape of the result for the sources' shapes; raises GraphError if they do not fit."""
        return sources[0]

    def arrays(self) -> dict[str, Array]:
        """The array parameters by field name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

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
        if not isinstance(value, (tuple, list)) or not all(_is_int(n, least) for n in value):
            raise GraphError(f"{self.name}.{field}: {value!r}, integers >= {least} needed")
        frozen = tuple(int(n) for n in value)
        object.__setattr__(self, field, frozen)
        return frozen

    def _pairs(self, field: str) -> Pairs:
        """Freeze a tuple of (before, after) paddings; returns it."""
        value = getattr(self, field)
        good = isinstance(value, (tuple, list)) and all(
            isinstance(pair, (tuple, list)) and len(pair) == 2 and all(_is_int(n, 0) for n in pair)
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


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_positive(value: Any) -> bool:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and 0 < value < math.inf


def _windows(
    node: Node, shape: Shape, kernel: Shape, stride: Shape, padding: Pairs, dilation: Shape
) -> Shape:
    """Number of window positions along each spatial axis; raises GraphError where there is none."""
    result = []
    for axis, length in enumerate(shape):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        room = length + sum(padding[axis]) - reach
        if room < 0:
            raise GraphError(
                f"{node.name}: a window of {reach} does not fit the padded length "
                f"{length + sum(padding[axis])} of spatial axis {axis}"
            )
        result.append(room // stride[axis] + 1)
    return tuple(result)


@dataclass(frozen=True, kw_only=True, eq=False)
class Input(Node):
    """Where the data enters: one sample of `shape`, values of type `dtype`.

    The value of one integer step is `unit` (1 for pixels and floats).
    encoding "direct": the analog sample is the current of every step; "rate" and "events": a
    spike tensor [T, B, *shape] is (encoded from the sample, or given by the caller).
    """

    kind: ClassVar[str] = "input"

    inputs: tuple[str, ...] = ()
    shape: Shape
    dtype: InputDtype = "float32"
    encoding: Encoding = "direct"
    unit: float = 1.0

    def _arity(self) -> tuple[int, int]:
        return 0, 0

    def _check(self) -> None:
        if not self._integers("shape", 1):
            raise GraphError(f"{self.name}.shape: empty, at least one axis is needed")
        if self.dtype not in ("float32", "uint8", "int8", "int16"):
            raise GraphError(f"{self.name}.dtype: {self.dtype!r}; float32, uint8, int8 or int16")
        if self.encoding not in ("direct", "rate", "events"):
            raise GraphError(f"{self.name}.encoding: {self.encoding!r}; direct, rate or events")
        if not _is_positive(self.unit):
            raise GraphError(f"{self.name}.unit: {self.unit!r}, a finite number > 0 needed")

    def output_shape(self, *sources: Shape) -> Shape:
        return self.shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv(Node):
    """Convolution (cross-correlation) over one or two spatial axes, zero padded.

    y[o, p] = bias[o] + sum_{i, k} weight[o, i, k] * x[i, stride * p + dilation * k - pad_before]
    """

    kind: ClassVar[str] = "conv"

    weight: Array  # [C_out, C_in / groups, *kernel]
    bias: Array  # [C_out]
    stride: Shape
    padding: Pairs  # (before, after) for each spatial axis
    dilation: Shape
    groups: int = 1

    def _check(self) -> None:
        weight = self._array("weight")
        bias = self._array("bias", 1)
        axes = weight.ndim - 2
        if axes not in (1, 2):
            raise GraphError(f"{self.name}.weight: shape {weight.shape}, rank 3 or 4 needed")
        if bias.shape != (weight.shape[0],):
            raise GraphError(f"{self.name}.bias: shape {bias.shape}, ({weight.shape[0]},) needed")
        sizes = (self._integers("stride", 1), self._pairs("padding"), self._integers("dilation", 1))
        if any(len(size) != axes for size in sizes):
            raise GraphError(f"{self.name}: stride, padding and dilation need {axes} entries each")
        if not _is_int(self.groups, 1) or weight.shape[0] % self.groups:
            raise GraphError(f"{self.name}.groups: {self.groups}, must divide {weight.shape[0]}")

    @property
    def kernel(self) -> Shape:
        return self.weight.shape[2:]

    def output_shape(self, *sources: Shape) -> Shape:
        (shape,) = sources
        channels = self.weight.shape[1] * self.groups
        if len(shape) != self.weight.ndim - 1 or shape[0] != channels:
            axes = ("L",) if self.weight.ndim == 3 else ("H", "W")
            wanted = ", ".join([str(channels), *axes])
            raise GraphError(f"{self.name}: input of shape {shape}, ({wanted}) needed")
        spatial = _windows(self, shape[1:], self.kernel, self.stride, self.padding, self.dilation)
        return (self.weight.shape[0], *spatial)


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Node):
    """Fully connected layer: y = weight @ x + bias."""

    kind: ClassVar[str] = "linear"

    weight: Array  # [F_out, F_in]
    bias: Array  # [F_out]

    def _check(self) -> None:
        weight, bias = self._array("weight", 2), self._array("bias", 1)
        if bias.shape != (weight.shape[0],):
            raise GraphError(f"{self.name}.bias: shape {bias.shape}, ({weight.shape[0]},) needed")

    def output_shape(self, *sources: Shape) -> Shape:
        if sources[0] != (self.weight.shape[1],):
            raise GraphError(
                f"{self.name}: input of shape {sources[0]}, ({self.weight.shape[1]},) needed"
            )
        return (self.weight.shape[0],)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale(Node):
    """A diagonal connection: y = scale * x + shift, per layer, channel or neuron."""

    kind: ClassVar[str] = "scale"

    scale: Array
    shift: Array  # each of a shape that broadcast_shapes allows

    def _check(self) -> None:
        self._array("scale")
        self._array("shift")

    def output_shape(self, *sources: Shape) -> Shape:
        self._broadcasts("scale", sources[0])
        self._broadcasts("shift", sources[0])
        return sources[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class AvgPool(Node):
    """Mean over windows; padded zeros count as values (PyTorch's count_include_pad=True)."""

    kind: ClassVar[str] = "avg_pool"

    kernel: Shape
    stride: Shape
    padding: Pairs

    def _check(self) -> None:
        sizes = (self._integers("kernel", 1), self._integers("stride", 1), self._pairs("padding"))
        if len({len(size) for size in sizes}) != 1 or not self.kernel:
            raise GraphError(f"{self.name}: kernel, stride and padding need one entry an axis")

    def output_shape(self, *sources: Shape) -> Shape:
        (shape,) = sources
        if len(shape) != len(self.kernel) + 1:
            raise GraphError(f"{self.name}: input of shape {shape}, {len(self.kernel) + 1} axes")
        ones = (1,) * len(self.kernel)
        spatial = _windows(self, shape[1:], self.kernel, self.stride, self.padding, ones)
        return (shape[0], *spatial)


@dataclass(frozen=True, kw_only=True, eq=False)
class Flatten(Node):
    """All axes into one, the last running fastest."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, *sources: Shape) -> Shape:
        return (math.prod(sources[0]),)


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Node):
    """Sum of two or more sources of one shape; a source may be named twice."""

    kind: ClassVar[str] = "add"

    def _arity(self) -> tuple[int, int]:
        return 2, 2**31

    def output_shape(self, *sources: Shape) -> Shape:
        if len(set(sources)) != 1:
            raise GraphError(f"{self.name}: sources of shapes {sources} can't be added")
        return sources[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Relu(Node):
    """Rectifier of the ANN, with an optional upper bound and quantization levels.

    y = clip(x, 0, upper)
    y = upper / L * clip(floor(x * L / upper + 1/2), 0, L)      with levels L (QCFS)
    """

    kind: ClassVar[str] = "relu"

    upper: float | None = None  # > 0, activation units
    levels: int | None = None  # only with upper

    def _check(self) -> None:
        if self.upper is not None:
            if not _is_positive(self.upper):
                raise GraphError(f"{self.name}.upper: {self.upper!r}, a finite number > 0 needed")
            object.__setattr__(self, "upper", float(self.upper))
        if self.levels is not None and (self.upper is None or not _is_int(self.levels, 1)):
            raise GraphError(f"{self.name}.levels: {self.levels!r} needs upper and an integer >= 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class IF(Node):
    """Integrate-and-fire population with soft reset; spikes on the wire are 0 or 1.

        u[t] = v[t-1] + I[t];  s[t] = u[t] >= v_threshold;  v[t] = u[t] - v_threshold * s[t]

    (IC-SNN, Eqs. 4 to 6, with >= for >.) v[0] = v_init.
    """

    kind: ClassVar[str] = "if"

    v_threshold: Array  # > 0
    v_init: Array  # each of a shape that broadcast_shapes allows, unit of the input current

    def _check(self) -> None:
        self._array("v_init")
        smallest = self._array("v_threshold").min()
        if not smallest > 0:
            raise GraphError(f"{self.name}.v_threshold: smallest is {smallest}, > 0 needed")

    def output_shape(self, *sources: Shape) -> Shape:
        self._broadcasts("v_threshold", sources[0])
        self._broadcasts("v_init", sources[0])
        return sources[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Output(Node):
    """The readout: logits = mean of the incoming current over the steps t in (t0, T]."""

    kind: ClassVar[str] = "output"


NODE_TYPES: dict[str, type[Node]] = {
    node_type.kind: node_type
    for node_type in (Input, Conv, Linear, Scale, AvgPool, Flatten, Add, Relu, IF, Output)
}

LINEAR_NODES = (Conv, Linear, Scale, AvgPool, Flatten, Add)
"""Nodes without memory or threshold: what lies between two populations is made of these."""
