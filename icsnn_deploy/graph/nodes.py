"""The node kinds of a graph, each with its equation, its checks and its shape rule.

Shapes leave out time and batch: an image is (C, H, W), a signal (C, L), a feature vector (F,).
Parameters of a population are stored ready to broadcast: (1, 1, 1) for one value per layer,
(C, 1, 1) for one per channel, (C, H, W) for one per neuron.

The kinds are a closed set: `Node` is their union. Code that must handle every kind ends its `match`
with `typing_extensions.assert_never`, and mypy lists every such place when a kind is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.node import (
    BaseNode,
    Pairs,
    Shape,
    broadcast_shapes,
    is_integer,
    is_positive,
    window_positions,
)
from icsnn_deploy.graph.parts import Part, checked_index, checked_parts, require_whole
from icsnn_deploy.graph.population import IF, AnyPopulation, Population

__all__ = [
    "IF",
    "LINEAR_NODES",
    "NODE_TYPES",
    "Add",
    "AnyPopulation",
    "AvgPool",
    "BaseNode",
    "ChannelAffine",
    "Conv",
    "Encoding",
    "Flatten",
    "Input",
    "InputDtype",
    "Linear",
    "Node",
    "Output",
    "Pairs",
    "Part",
    "Population",
    "Relu",
    "Shape",
    "broadcast_shapes",
    "is_timed",
]

InputDtype = Literal["float32", "uint8", "int8", "int16"]
Encoding = Literal["direct", "rate", "events"]


def is_timed(encoding: Encoding) -> bool:
    """Whether inputs of this encoding have a time axis: [T, B, *shape] instead of [B, *shape]."""
    return encoding != "direct"


@dataclass(frozen=True, kw_only=True, eq=False)
class Input(BaseNode):
    """Where the data enters: one sample of `shape`, values of type `dtype`.

    A model of several inputs has their values packed in one (see arrangement.pack_inputs):

        x = concat(flat(part_1), ..., flat(part_n), 0)[index]          index -1 takes the 0

    Attributes:
        shape: of one sample, without time and batch.
        dtype: of the values; an integer type in an integer network.
        encoding: "direct": the analog sample [B, *shape] is the current of every step; "rate" and
            "events": spikes [T, B, *shape], encoded from the sample or given by the caller.
        unit: the value that 1 in the input stands for (1 for pixels and floats).
        index: for each value of the input its position in the parts, one after the other; -1 for
            a value that is always 0, int64. None: the one part, in the shape of the input.
        parts: the model's inputs, in order; empty: one, which is the input as it is.
    """

    kind: ClassVar[str] = "input"
    optional: ClassVar[frozenset[str]] = frozenset({"index", "parts"})
    host_arrays: ClassVar[frozenset[str]] = frozenset({"index"})

    inputs: tuple[str, ...] = ()
    shape: Shape
    dtype: InputDtype = "float32"
    encoding: Encoding = "direct"
    unit: float = 1.0
    index: Array | None = None  # int64 [*shape]
    parts: tuple[Part, ...] = ()

    def _arity(self) -> tuple[int, int]:
        return 0, 0

    def _check(self) -> None:
        if not self._integers("shape", 1):
            raise GraphError(f"{self.name}.shape: empty, at least one axis is needed")
        if self.dtype not in ("float32", "uint8", "int8", "int16"):
            raise GraphError(f"{self.name}.dtype: {self.dtype!r}; float32, uint8, int8 or int16")
        if self.encoding not in ("direct", "rate", "events"):
            raise GraphError(f"{self.name}.encoding: {self.encoding!r}; direct, rate or events")
        if not is_positive(self.unit):
            raise GraphError(f"{self.name}.unit: {self.unit!r}, a finite number > 0 needed")
        _freeze_parts(self, least=-1)
        if self.index is None:
            require_whole(self.name, self.parts, self.shape)
            return
        if self.index.shape != self.shape:
            raise GraphError(f"{self.name}.index: shape {self.index.shape}, {self.shape} needed")
        values = sum(part.size for part in self.parts)
        if self.index.max() >= values:
            raise GraphError(
                f"{self.name}.index: position {self.index.max()} in the {values} values of its "
                "parts"
            )

    @property
    def is_timed(self) -> bool:
        """Whether inputs have a time axis: [T, B, *shape] instead of [B, *shape]."""
        return is_timed(self.encoding)

    @property
    def batch_axis(self) -> int:
        """The axis of an input array that counts the samples: 1 after a time axis, otherwise 0."""
        return int(self.is_timed)

    def output_shape(self, *sources: Shape) -> Shape:
        return self.shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv(BaseNode):
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
        if not is_integer(self.groups, 1) or weight.shape[0] % self.groups:
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
        spatial = window_positions(
            self.name, shape[1:], self.kernel, self.stride, self.padding, self.dilation
        )
        return (self.weight.shape[0], *spatial)


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(BaseNode):
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
class ChannelAffine(BaseNode):
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
class AvgPool(BaseNode):
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
        spatial = window_positions(
            self.name, shape[1:], self.kernel, self.stride, self.padding, ones
        )
        return (shape[0], *spatial)


@dataclass(frozen=True, kw_only=True, eq=False)
class Flatten(BaseNode):
    """All axes into one, the last running fastest."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, *sources: Shape) -> Shape:
        return (math.prod(sources[0]),)


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(BaseNode):
    """Sum of two or more sources of one shape; a source may be named twice."""

    kind: ClassVar[str] = "add"

    def _arity(self) -> tuple[int, int]:
        return 2, 2**31

    def output_shape(self, *sources: Shape) -> Shape:
        if len(set(sources)) != 1:
            raise GraphError(f"{self.name}: sources of shapes {sources} can't be added")
        return sources[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Relu(BaseNode):
    """Rectifier of the ANN, with an optional upper bound and quantization levels.

    y = clip(x, 0, upper)
    y = upper / L * clip(floor(x * L / upper + 1/2), 0, L)      with levels L (QCFS)
    """

    kind: ClassVar[str] = "relu"

    upper: float | None = None  # > 0, activation units
    levels: int | None = None  # only with upper

    def _check(self) -> None:
        if self.upper is not None:
            if not is_positive(self.upper):
                raise GraphError(f"{self.name}.upper: {self.upper!r}, a finite number > 0 needed")
            object.__setattr__(self, "upper", float(self.upper))
        if self.levels is not None and (self.upper is None or not is_integer(self.levels, 1)):
            raise GraphError(f"{self.name}.levels: {self.levels!r} needs upper and an integer >= 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Output(BaseNode):
    """The readout: logits = mean of the incoming current over the steps t in (t0, T].

    The network computes the logits in the layout of the source. Where the model's outputs are
    several, or are laid out differently, the host takes them apart (see arrangement.named_outputs):

        concat(flat(part_1), ..., flat(part_n)) = flat(logits)[index]

    Attributes:
        index: positions in the flattened logits, one per value of the parts, int64. None: the one
            part, in the order of the logits.
        parts: the model's outputs, in order; empty: one, which is the logits as they are.
    """

    kind: ClassVar[str] = "output"
    optional: ClassVar[frozenset[str]] = frozenset({"index", "parts"})
    host_arrays: ClassVar[frozenset[str]] = frozenset({"index"})

    index: Array | None = None  # int64 [sum of the parts' values]
    parts: tuple[Part, ...] = ()

    def _check(self) -> None:
        _freeze_parts(self, least=0)
        values = sum(part.size for part in self.parts)
        if self.index is not None and self.index.shape != (values,):
            raise GraphError(
                f"{self.name}.index: shape {self.index.shape}, ({values},) needed, one position "
                "per value of its parts"
            )

    def output_shape(self, *sources: Shape) -> Shape:
        if self.index is None:
            require_whole(self.name, self.parts, sources[0])
        elif self.index.max() >= math.prod(sources[0]):
            raise GraphError(
                f"{self.name}.index: position {self.index.max()} in {math.prod(sources[0])} values"
            )
        return sources[0]


def _freeze_parts(node: Input | Output, *, least: int) -> None:
    """Check and freeze the parts and the index of a node; raises GraphError."""
    object.__setattr__(node, "parts", checked_parts(node.name, node.parts))
    if node.index is not None:
        index = checked_index(node.name, node.parts, node._array("index"), least=least)
        object.__setattr__(node, "index", index)


Node = (
    Input | Conv | Linear | ChannelAffine | AvgPool | Flatten | Add | Relu | AnyPopulation | Output
)
"""A node of a graph: the closed union of all kinds."""

NODE_TYPES: dict[str, type[Node]] = {node_type.kind: node_type for node_type in get_args(Node)}
"""The node kinds by the name that files use."""

LINEAR_NODES = (Conv, Linear, ChannelAffine, AvgPool, Flatten, Add)
"""Nodes without memory or threshold: everything between two populations is made of these."""
