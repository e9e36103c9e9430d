"""Traced tensors, and the graph that their calls are lowered to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from icsnn_deploy.conversion.frontend.elements import Elements, Numbering
from icsnn_deploy.conversion.frontend.inputs import InputLayout
from icsnn_deploy.conversion.frontend.piecewise_linear import PiecewiseLinear
from icsnn_deploy.graph.nodes import Input, Node, Shape
from icsnn_deploy.graph.order import walk_back
from icsnn_deploy.passes.edit import unique_name

Result = str | Elements
"""What a call computes: a node of the shape that PyTorch sees, or elements of nodes."""

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
