"""Compose the nodes between two populations to sums of single connections from spikes.

    if -> conv a -> add -> conv b -> if                    before
    if -> conv (b a) -> add -> if                          after
    if ------ conv b -----/

Two connections in a row can't be put on the integer lattice: the inputs of the second one would
be sums of weights, not spikes. So each convolution or fully connected layer after other connections
(a bottleneck without activation, a join, a selection from max pooling) becomes one connection from
each population that it depends on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Relu,
    Shape,
)
from icsnn_deploy.graph.order import walk_back
from icsnn_deploy.passes.affine import Affine, composed, moved_after
from icsnn_deploy.passes.edit import rewire, unique_name
from icsnn_deploy.passes.pooling import is_window_sum


def compose(graph: Graph) -> Graph:
    """Rewrite a network with one connection between populations wherever that is exact.

    Each sum gets private connections, so that on the lattice it can have its own unit.
    """
    return _Composer(graph).run()


class _Composer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}
        self.summands: dict[str, tuple[str, ...]] = {}  # old node -> new nodes whose sum it is
        self.used: set[str] = set()  # connections that have a consumer already
        self.before: dict[tuple[str, str], str] = {}  # source, old node -> the node on that source
        self.names = {node.name for node in graph.nodes}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self.summands[node.name] = self._summands(node)
        used = walk_back(self.nodes, [self.graph.output.name], lambda node: True)
        names = {node.name for node in used}
        return self.graph.with_nodes(n for n in self.nodes.values() if n.name in names)

    def _summands(self, node: Node) -> tuple[str, ...]:
        if isinstance(node, Add):
            return tuple(s for name in node.inputs for s in self.summands[name])
        if not isinstance(node, Input):
            parts = self.summands[node.inputs[0]]
            if self._distributes(node, parts):
                return self._distribute(node, parts)
        self._keep(node)
        return (node.name,)

    def _distributes(self, node: Node, parts: tuple[str, ...]) -> bool:
        """Whether a node is to be applied to the parts of its input, not to their sum."""
        sources = [self.nodes[part] for part in parts]
        if isinstance(node, Flatten):
            return len(parts) > 1 and all(
                isinstance(source, (Relu, IF, ChannelAffine)) for source in sources
            )
        on_affine = any(_is_affine(source) for source in sources)
        if isinstance(node, AvgPool):
            return on_affine
        return _is_affine(node) and (on_affine or len(parts) > 1)

    def _keep(self, node: Node) -> None:
        """Add the node unchanged, with the new nodes of its sources."""
        self._add(rewire(node, {name: self._whole(name) for name in node.inputs}))

    def _whole(self, name: str) -> str:
        """Name of a single node that computes an old node's result, for one consumer."""
        return self._sum(name, [self._private(part) for part in self.summands[name]])

    def _sum(self, name: str, parts: list[str]) -> str:
        if len(parts) == 1:
            return parts[0]
        was_sum = name in self.graph and isinstance(self.graph.node(name), Add)
        if not was_sum or name in self.nodes:
            name = self._fresh(f"{name}.sum")
        return self._add(Add(name=name, inputs=tuple(parts)))

    def _private(self, part: str) -> str:
        """Name of a connection without other consumers: this one, or a copy."""
        node = self.nodes[part]
        if not _is_affine(node):
            return part
        if part in self.used:
            part = self._add(replace(node, name=self._fresh(part)))
        self.used.add(part)
        return part

    def _fresh(self, wish: str) -> str:
        name = unique_name(wish, self.names)
        self.names.add(name)
        return name

    def _add(self, node: Node) -> str:
        self.nodes[node.name] = node
        self.shapes[node.name] = node.output_shape(*(self.shapes[name] for name in node.inputs))
        return node.name

    def _distribute(self, node: Node, parts: tuple[str, ...]) -> tuple[str, ...]:
        """Add nodes whose sum is the node's result, one for each part for which that is exact."""
        results: list[str] = []
        remaining: list[str] = []
        for part in parts:
            applied = self._on(node, part, first=not results)
            if applied is None:
                remaining.append(part)
            else:
                name = self._fresh(f"{node.name}.{part}") if results else node.name
                results.append(self._add(replace(applied, name=name)))
        if len(remaining) == len(parts):
            self._keep(node)
            return (node.name,)
        if remaining:
            rest = self._sum(f"{node.name}.rest", [self._private(part) for part in remaining])
            name = self._fresh(f"{node.name}.{rest}")
            results.append(self._add(_unbiased(replace(node, name=name, inputs=(rest,)))))
        return tuple(results)

    def _on(self, node: Node, part: str, *, first: bool) -> Node | None:
        """The node applied to one part of its input, or None; only the first part gets its bias."""
        own = replace(node, inputs=(part,)) if first else _unbiased(replace(node, inputs=(part,)))
        before = self.nodes[part]
        if not _is_affine(before):
            return own
        affine = cast(Affine, before)
        if isinstance(own, (AvgPool, Flatten)):
            return self._before(own, affine)
        shapes = (self.shapes[before.inputs[0]], self.shapes[part])
        return composed(own, affine, shapes)

    def _before(self, node: AvgPool | Flatten, affine: Affine) -> Node | None:
        """Move the pooling or flattening before the affine node; it is added once per source."""
        moved = moved_after(node, affine, self.shapes[affine.name])
        if moved is None:
            return None
        (source,) = affine.inputs
        if (source, node.name) not in self.before:
            name = self._fresh(f"{affine.name}.{node.name}")
            self.before[source, node.name] = self._add(replace(node, name=name, inputs=(source,)))
        return replace(moved, inputs=(self.before[source, node.name],))


def _is_affine(node: Node) -> bool:
    return isinstance(node, (Conv, Linear, ChannelAffine)) and not _is_leaf(node)


def _is_leaf(node: Node) -> bool:
    """Whether a result is used like spikes: a window sum, or integer input minus zero points."""
    if isinstance(node, Conv):
        return is_window_sum(node) and any(n > 1 for n in node.kernel)
    return isinstance(node, ChannelAffine) and node.scale.dtype.kind == "i"


def _unbiased(node: Node) -> Node:
    if isinstance(node, (Conv, Linear)):
        return replace(node, bias=np.zeros_like(node.bias))
    return (
        replace(node, shift=np.zeros_like(node.shift)) if isinstance(node, ChannelAffine) else node
    )
