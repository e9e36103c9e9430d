"""Compose what lies between two populations: sums of single connections, straight from spikes.

    if -> conv a -> add -> conv b -> if                    before
    if -> conv (b a) -> add -> if                          after
    if ------ conv b -----/

A connection of a connection can't go on the integer lattice as it is: its inputs would be sums of
weights, not spikes. So each convolution or fully connected layer that takes other connections (a
bottleneck without activation, a join, what is picked of a max pooling) becomes one connection from
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
from icsnn_deploy.passes.affine import Affine, composed, moved_behind
from icsnn_deploy.passes.edit import rewire, unique_name
from icsnn_deploy.passes.pooling import is_window_sum


def compose(graph: Graph) -> Graph:
    """The same network with one connection between populations wherever that is exact.

    Each sum gets connections of its own, so that on the lattice it can have a unit of its own.
    """
    return _Composer(graph).run()


class _Composer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}
        self.summands: dict[str, tuple[str, ...]] = {}  # old node -> new ones whose sum it is
        self.used: set[str] = set()  # connections that are part of a sum, or alone at a population
        self.before: dict[tuple[str, str], str] = {}  # source, old node -> the node on that source
        self.taken = {node.name for node in graph.nodes}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self.summands[node.name] = self._summands(node)
        used = walk_back(self.nodes, [self.graph.output.name], lambda node: True)
        wanted = {node.name for node in used}
        return self.graph.with_nodes(n for n in self.nodes.values() if n.name in wanted)

    def _summands(self, node: Node) -> tuple[str, ...]:
        if isinstance(node, Add):
            return tuple(s for name in node.inputs for s in self.summands[name])
        if not isinstance(node, Input):
            parts = self.summands[node.inputs[0]]
            if self._goes_through(node, parts):
                return self._through(node, parts)
        self._keep(node)
        return (node.name,)

    def _goes_through(self, node: Node, parts: tuple[str, ...]) -> bool:
        """Whether a node is to stand on the parts of its input, not on their sum."""
        sources = [self.nodes[part] for part in parts]
        if isinstance(node, Flatten):
            return len(parts) > 1 and all(
                isinstance(one, (Relu, IF, ChannelAffine)) for one in sources
            )
        on_affine = any(_is_affine(one) for one in sources)
        if isinstance(node, AvgPool):
            return on_affine
        return _is_affine(node) and (on_affine or len(parts) > 1)

    def _keep(self, node: Node) -> None:
        """The node as it is, on whatever its sources have become."""
        self._add(rewire(node, {name: self._whole(name) for name in node.inputs}))

    def _whole(self, name: str) -> str:
        """A single node that holds an old node's result, for one consumer."""
        return self._sum(name, [self._private(part) for part in self.summands[name]])

    def _sum(self, name: str, parts: list[str]) -> str:
        if len(parts) == 1:
            return parts[0]
        free = name in self.graph and isinstance(self.graph.node(name), Add)
        if not free or name in self.nodes:
            name = self._fresh(f"{name}.sum")
        return self._add(Add(name=name, inputs=tuple(parts)))

    def _private(self, part: str) -> str:
        """A connection that nobody else takes: this one, or a copy."""
        node = self.nodes[part]
        if not _is_affine(node):
            return part
        if part in self.used:
            part = self._add(replace(node, name=self._fresh(part)))
        self.used.add(part)
        return part

    def _fresh(self, wish: str) -> str:
        name = unique_name(wish, self.taken)
        self.taken.add(name)
        return name

    def _add(self, node: Node) -> str:
        self.nodes[node.name] = node
        self.shapes[node.name] = node.output_shape(*(self.shapes[name] for name in node.inputs))
        return node.name

    def _through(self, node: Node, parts: tuple[str, ...]) -> tuple[str, ...]:
        """New nodes whose sum is the node's result, each on one part where that is exact."""
        results: list[str] = []
        left: list[str] = []
        for part in parts:
            made = self._on(node, part, first=not results)
            if made is None:
                left.append(part)
            else:
                name = self._fresh(f"{node.name}.{part}") if results else node.name
                results.append(self._add(replace(made, name=name)))
        if len(left) == len(parts):
            self._keep(node)
            return (node.name,)
        if left:
            rest = self._sum(f"{node.name}.rest", [self._private(part) for part in left])
            name = self._fresh(f"{node.name}.{rest}")
            results.append(self._add(_unbiased(replace(node, name=name, inputs=(rest,)))))
        return tuple(results)

    def _on(self, node: Node, part: str, *, first: bool) -> Node | None:
        """The node on one part of its input; its bias counts once."""
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
        """The affine node behind the other, which is made once for each source."""
        moved = moved_behind(node, affine, self.shapes[affine.name])
        if moved is None:
            return None
        (source,) = affine.inputs
        if (source, node.name) not in self.before:
            name = self._fresh(f"{affine.name}.{node.name}")
            made = self._add(replace(node, name=name, inputs=(source,)))
            self.before[source, node.name] = made
        return replace(moved, inputs=(self.before[source, node.name],))


def _is_affine(node: Node) -> bool:
    return isinstance(node, (Conv, Linear, ChannelAffine)) and not _is_leaf(node)


def _is_leaf(node: Node) -> bool:
    """What is as good as spikes: sums over windows, and integers taken off an integer input."""
    if isinstance(node, Conv):
        return is_window_sum(node) and any(n > 1 for n in node.kernel)
    return isinstance(node, ChannelAffine) and node.scale.dtype.kind == "i"


def _unbiased(node: Node) -> Node:
    if isinstance(node, (Conv, Linear)):
        return replace(node, bias=np.zeros_like(node.bias))
    return (
        replace(node, shift=np.zeros_like(node.shift)) if isinstance(node, ChannelAffine) else node
    )
