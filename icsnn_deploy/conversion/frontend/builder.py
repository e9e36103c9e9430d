"""What lowering rules work with: traced tensors, the graph under construction, a call's context."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from icsnn_deploy.conversion.frontend.piecewise_linear import PiecewiseLinear
from icsnn_deploy.graph.nodes import BaseNode, Flatten, Input, Node, Pairs, Shape
from icsnn_deploy.graph.order import walk_back
from icsnn_deploy.passes.edit import unique_name

Lowering = Callable[..., str]
"""Takes a CallContext and the arguments of a call; adds nodes; returns the result's node name."""


class Unsupported(Exception):  # noqa: N818 - caught by the driver, which makes it a Rejection
    """An operator, or an argument of one, that has no equivalent in the graph."""

    def __init__(self, *, got: str, allowed: str, remedy: str, node: str | None = None) -> None:
        self.got, self.allowed, self.remedy, self.node = got, allowed, remedy, node
        super().__init__(f"{got}: {allowed}. {remedy}")


@dataclass(eq=False)
class Storage:
    """Memory that several tensors may share."""

    members: list[Traced] = field(default_factory=list)


@dataclass(eq=False)
class Traced:
    """A tensor of the model that depends on its input, and the graph node that computes it.

    `shape` is what PyTorch sees, batch first. It may differ from the node's shape by a reshape
    that keeps the order of the elements ([B, C, H, W] seen as [B, C, H * W]).
    """

    node: str
    shape: Shape
    dtype: torch.dtype
    origin: str  # path of the operation that made it
    storage: Storage
    stale: str | None = None  # the in-place operation that overwrote its memory

    def __post_init__(self) -> None:
        self.storage.members.append(self)

    def overwrite(self, node: str, origin: str) -> None:
        """Let the tensor hold another node's result; other views of its memory become stale."""
        self.node = node
        for other in self.storage.members:
            if other is not self:
                other.stale = origin


@dataclass(frozen=True, kw_only=True, eq=False)
class Concatenation(BaseNode):
    """The sources side by side along the channels; replaced before a Graph is created."""

    kind: ClassVar[str] = "concatenation"

    def _arity(self) -> tuple[int, int]:
        return 2, 2**31

    def output_shape(self, *sources: Shape) -> Shape:
        return (sum(shape[0] for shape in sources), *sources[0][1:])


LoweredNode = Node | Concatenation
"""What a model is lowered to, before concatenations become sums."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Function:
    """A tensor as a piecewise-linear function of what a node computes, element by element.

    Attributes:
        source: the node.
        f: the function.
        origin: path of the operation that made it.
        operands: for a comparison of two tensors, their nodes; the source is their difference.
    """

    source: str
    f: PiecewiseLinear
    origin: str = ""
    operands: tuple[str, str] | None = None


class Builder:
    """The graph under construction: its nodes, their shapes and names."""

    def __init__(self, shape: Shape) -> None:
        self.nodes: dict[str, LoweredNode] = {}
        self.shapes: dict[str, Shape] = {}
        self.taken = {"input", "output"}
        self.selections: dict[
            str, tuple[str, tuple[range, ...]]
        ] = {}  # node -> (source, positions it selects)
        self.paddings: dict[str, tuple[str, Pairs]] = {}  # node -> (source, padding)
        self.max_pools: dict[str, tuple[str, ...]] = {}  # node -> rectifiers of that max pooling
        self.functions: dict[str, Function] = {}  # results of activations; some have no node
        self.add(Input(name="input", shape=shape))

    def add(self, node: LoweredNode) -> str:
        """Keep a node.

        Raises:
            GraphError: its sources do not fit.
            Unsupported: a source has no node (see `symbol`).
        """
        for name in node.inputs:
            self.check_computed(name)
        self.shapes[node.name] = node.output_shape(*(self.shapes[name] for name in node.inputs))
        self.nodes[node.name] = node
        return node.name

    def name(self, wish: str) -> str:
        """A name that no other node has, as close to the wish as possible."""
        name = unique_name(wish.replace("/", "_"), self.taken)
        self.taken.add(name)
        return name

    def stand_in(self, wish: str, shape: Shape) -> str:
        """A name for the result of a rejected call, so that the calls after it are checked too."""
        name = self.name(f"{wish} (rejected)")
        self.shapes[name] = shape
        return name

    def symbol(self, wish: str, shape: Shape, function: Function) -> str:
        """A name for a result without a node, such as that of a comparison, that jumps.

        where, products and sums with other functions of the same tensor may take the jump away;
        other operators can't use it.
        """
        name = self.name(f"{wish} (symbol)")
        self.shapes[name] = shape
        self.functions[name] = function
        return name

    def is_symbol(self, name: str) -> bool:
        """Whether a result has no node because it jumps."""
        return name in self.functions and name not in self.nodes

    def check_computed(self, name: str) -> None:
        """Raise Unsupported, naming the operation that made the result, if it has no node."""
        if not self.is_symbol(name):
            return
        function = self.functions[name]
        jump = function.f.jump()
        place = "" if jump is None else f", which jumps at {jump:g}"
        raise Unsupported(
            node=function.origin,
            got=f"the result of {function.origin}{place}, read by a layer",
            allowed="comparisons, masks and signs in where(...) or a product with the tensor they "
            "come from, if the result does not jump",
            remedy="Write it as a rectifier: relu, clamp, leaky_relu, where(x > 0, x, s * x); or "
            "replace it and retrain.",
        )

    def leading_to(self, name: str) -> list[LoweredNode]:
        """The nodes that `name` depends on, itself included, in the order they were made."""
        wanted = {node.name for node in walk_back(self.nodes, [name], lambda node: True)}
        return [node for node in self.nodes.values() if node.name in wanted]


class CallContext:
    """One call in the model: its path, the shape and type of its result, and the builder."""

    def __init__(
        self,
        builder: Builder,
        path: str,
        got: str,
        shape: Shape,
        dtype: torch.dtype,
        *,
        rectified: bool = False,
    ) -> None:
        self.builder = builder
        self.path = path
        self.got = got
        self.shape = shape  # of the result, batch first
        self.dtype = dtype
        self.rectified = rectified  # the result goes to rectifiers only
        self._added = False

    def name(self, suffix: str = "") -> str:
        """A fresh name for a node of this call."""
        return self.builder.name(f"{self.path}.{suffix}" if suffix else self.path)

    def source(self, x: object) -> str:
        """The node that computes x; its shape must be that of x in PyTorch.

        Raises:
            Unsupported: x is a constant, or was reshaped to a shape that no node has.
        """
        if not isinstance(x, Traced):
            raise self.unsupported(
                "a constant where the data should be", "data as the first operand"
            )
        name = self.function_source(x)
        self.builder.check_computed(name)
        return name

    def function_source(self, x: Traced) -> str:
        """The name of x as `source` gives it, also where it has no node (see Builder.symbol)."""
        shape = self.builder.shapes[x.node]
        if x.shape[1:] != shape:
            raise Unsupported(
                node=x.origin,
                got=f"reshape of {shape} to {x.shape[1:]}",
                allowed="flattening to [B, features]",
                remedy="Flatten to [B, -1], or keep the shape.",
            )
        return x.node

    def function_source_shape(self, x: object) -> Shape:
        """Shape of x without the batch, also where x has no node; raises as `source` does."""
        if not isinstance(x, Traced):
            return self.source_shape(x)
        return self.builder.shapes[self.function_source(x)]

    def source_shape(self, x: object) -> Shape:
        """Shape of x without the batch; raises Unsupported as `source` does."""
        return self.builder.shapes[self.source(x)]

    def add(self, node: LoweredNode) -> str:
        """Keep a node; raises GraphError if its sources do not fit."""
        self._added = True
        return self.builder.add(node)

    def flattened(self, name: str) -> str:
        """The node, followed by a Flatten if PyTorch has a vector and the node has not."""
        shape = self.builder.shapes[name]
        if len(self.shape) != 2 or len(shape) == 1 or self.shape[1] != math.prod(shape):
            return name
        own_name = self.name("flatten" if self._added else "")
        return self.add(Flatten(name=own_name, inputs=(name,)))

    def unsupported(self, got: str, allowed: str, remedy: str = "Rewrite it.") -> Unsupported:
        """The rejection of this call because of one of its arguments."""
        return Unsupported(got=f"{self.got}: {got}", allowed=allowed, remedy=remedy)
