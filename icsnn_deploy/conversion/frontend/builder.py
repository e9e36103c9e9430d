"""What lowering rules work with: traced tensors, the graph under construction, a call's context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from icsnn_deploy.conversion.frontend.elements import Elements, Numbering
from icsnn_deploy.conversion.frontend.inputs import InputLayout
from icsnn_deploy.conversion.frontend.piecewise_linear import PiecewiseLinear
from icsnn_deploy.graph.nodes import Input, Node, Shape
from icsnn_deploy.graph.order import walk_back
from icsnn_deploy.passes.edit import unique_name

Result = str | Elements
"""What a call computes: a node of the shape that PyTorch sees, or elements of nodes."""

Lowering = Callable[..., Any]
"""Takes a CallContext and the arguments of a call; adds nodes; returns a Result, or for a call of
several results a tuple of them."""

MAX_WEIGHTS = 2**27
"""Weights of one node that the front end makes: 512 MiB in float32."""


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
    """A tensor of the model that depends on its input, and where its values are computed.

    Attributes:
        value: of one sample.
        shape: what PyTorch sees, batch first.
        dtype: of the model's tensor.
        origin: path of the operation that made it.
        storage: the memory that it lies in.
        stale: the in-place operation that overwrote its memory.
        host_op: the operation that is left to the host, where it is one of the last of the model.
    """

    value: Result
    shape: Shape
    dtype: torch.dtype
    origin: str
    storage: Storage
    stale: str | None = None
    host_op: str = ""

    def __post_init__(self) -> None:
        self.storage.members.append(self)

    def overwrite(self, value: Result, origin: str) -> None:
        """Let the tensor hold another result; other views of its memory become stale."""
        self.value = value
        for other in self.storage.members:
            if other is not self:
                other.stale = origin


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
    """The graph under construction: its nodes, their shapes and names.

    Attributes:
        nodes: by name, in the order they were made.
        numbering: numbers of the elements of their results.
        max_pools: node -> rectifiers of that max pooling.
        functions: results of activations, of which some have no node.
        batch: samples of the example.
        layout: of the model's inputs.
        better_layout: another layout with which the model may convert, where it did not.
    """

    def __init__(self, node: Input, layout: InputLayout, batch: int) -> None:
        self.input = node
        self.batch = batch
        self.layout = layout
        self.better_layout: InputLayout | None = None
        self.nodes: dict[str, Node] = {}
        self.numbering = Numbering()
        self.taken = {"input", "output"}
        self.max_pools: dict[str, tuple[str, ...]] = {}
        self.functions: dict[str, Function] = {}
        self.gathered: dict[tuple[Shape, bytes, bytes], str] = {}  # digests of elements -> node
        self.flattened: dict[str, str] = {}  # node -> the same, flattened
        self.add(node)

    @property
    def vectors_as_images(self) -> bool:
        """Whether vectors are computed as images of one position, [F, 1, 1]."""
        return self.layout.vectors_as_images

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shapes of the nodes' results."""
        return self.numbering.shapes

    def add(self, node: Node) -> str:
        """Keep a node.

        Raises:
            GraphError: its sources do not fit.
            Unsupported: a source has no node (see `symbol`).
        """
        for name in node.inputs:
            self.check_computed(name)
        shape = node.output_shape(*(self.shapes[name] for name in node.inputs))
        self.numbering.add(node.name, shape)
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
        self.numbering.add(name, shape)
        return name

    def symbol(self, wish: str, shape: Shape, function: Function) -> str:
        """A name for a result without a node, such as that of a comparison, that jumps.

        where, products and sums with other functions of the same tensor may take the jump away;
        other operators can't use it.
        """
        name = self.name(f"{wish} (symbol)")
        self.numbering.add(name, shape)
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

    def leading_to(self, name: str) -> list[Node]:
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
        run: Callable[..., Any] | None = None,
    ) -> None:
        self.builder = builder
        self.path = path
        self.got = got
        self.shape = shape  # of the result, batch first
        self.dtype = dtype
        self.rectified = rectified  # the result goes to rectifiers only
        self._run = run

    def on(self, shape: Shape) -> CallContext:
        """The same call on a part of its operand, with a result of this shape, batch first."""
        return CallContext(
            self.builder,
            self.path,
            self.got,
            shape,
            self.dtype,
            rectified=self.rectified,
            run=self._run,
        )

    def run(self, substitute: Callable[[Any], Any]) -> Any:
        """The traced call in PyTorch, with each operand replaced by substitute(operand)."""
        if self._run is None:
            raise self.unsupported("a call that can't be repeated", "a call of the model")
        return self._run(substitute)

    def name(self, suffix: str = "") -> str:
        """A fresh name for a node of this call."""
        return self.builder.name(f"{self.path}.{suffix}" if suffix else self.path)

    def elements(self, x: object) -> Elements:
        """The elements of a traced tensor, in the shape that PyTorch sees without the batch."""
        traced = self.traced(x)
        self._check_batch_axis(traced)
        if isinstance(traced.value, Elements):
            return traced.value
        return self.builder.numbering.elements(traced.value)

    def _check_batch_axis(self, traced: Traced) -> None:
        if isinstance(traced.value, Elements) and traced.value.batch_axis:
            raise self.unsupported(
                f"a tensor of shape {list(traced.shape)}, whose samples lie along axis "
                f"{traced.value.batch_axis}",
                "tensors with the batch as the first axis",
                "Keep x.size(0) as the first axis: stack along dim=1, flatten with start_dim=1.",
            )

    def traced(self, x: object) -> Traced:
        """The operand itself; raises Unsupported for a constant."""
        if not isinstance(x, Traced):
            raise self.unsupported(
                "a constant where the data should be", "data as the first operand"
            )
        return x

    def source(self, x: object) -> str:
        """A node that computes x, in the shape of x in PyTorch.

        Raises:
            Unsupported: x is a constant, or no node can have its shape.
        """
        name = self.function_source(x)
        self.builder.check_computed(name)
        return name

    def function_source(self, x: object) -> str:
        """The name of x as `source` gives it, also where it has no node (see Builder.symbol)."""
        from icsnn_deploy.conversion.frontend.gather import gather  # it needs this module

        traced = self.traced(x)
        self._check_batch_axis(traced)
        if isinstance(traced.value, str):
            return traced.value
        return gather(self.builder, traced.value, traced.origin)

    def function_source_shape(self, x: object) -> Shape:
        """Shape of x without the batch, also where x has no node."""
        return self.source_shape(x)

    def source_shape(self, x: object) -> Shape:
        """Shape of x without the batch; raises Unsupported for a constant."""
        return self.traced(x).shape[1:]

    def add(self, node: Node) -> str:
        """Keep a node; raises GraphError if its sources do not fit."""
        return self.builder.add(node)

    def unsupported(self, got: str, allowed: str, remedy: str = "Rewrite it.") -> Unsupported:
        """The rejection of this call because of one of its arguments."""
        return Unsupported(got=f"{self.got}: {got}", allowed=allowed, remedy=remedy)
