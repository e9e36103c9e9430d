"""What a lowering rule works with: a call of the model, its operands, where nodes are added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from icsnn_deploy.conversion.frontend.builder import Builder, Traced, Unsupported
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather import gather
from icsnn_deploy.graph.nodes import Node, Shape

Lowering = Callable[..., Any]
"""Takes a CallContext and the arguments of a call; adds nodes; returns a Result, or for a call of
several results a tuple of them."""


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
        traced = self.traced(x)
        self._check_batch_axis(traced)
        if isinstance(traced.value, str):
            return traced.value
        return gather(self.builder, traced.value, traced.origin)

    def source_shape(self, x: object) -> Shape:
        """Shape of x without the batch.

        Raises:
            Unsupported: x is a constant, or its batch is not the first axis.
        """
        traced = self.traced(x)
        self._check_batch_axis(traced)
        return traced.shape[1:]

    def add(self, node: Node) -> str:
        """Keep a node; raises GraphError if its sources do not fit."""
        return self.builder.add(node)

    def unsupported(self, got: str, allowed: str, remedy: str = "Rewrite it.") -> Unsupported:
        """The rejection of this call because of one of its arguments."""
        return Unsupported(got=f"{self.got}: {got}", allowed=allowed, remedy=remedy)
