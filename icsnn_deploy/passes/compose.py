"""Compose the nodes between two populations to sums of single connections from spikes.

    if -> conv a -> add -> conv b -> if                    before
    if -> conv (b a) -> add -> if                          after
    if ------ conv b -----/

Two connections in a row can't be put on the integer lattice: the inputs of the second one would
be sums of weights, not spikes. So each convolution or fully connected layer after other connections
(a bottleneck without activation, a join, a selection from max pooling) becomes one connection from
each population that it depends on.

    if -> crop -> place -> add -> conv -> if               before and after
    if -> crop -> place -/

Two nodes stay where one in their place would cost much more (see composition_cost). Of connections
that only copy spikes (a crop, a padding, a channel picked) that loses nothing: the lattice keeps
their weights as the integers that they are, and the next connection gets spikes.

Sums of sums (y = W y + y, again and again) would have a connection for each path through them.
Where these are more than the nodes that they come from, those of one source are merged to one (see
merge_parts).
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from icsnn_deploy.errors import GraphError
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
from icsnn_deploy.passes.composition_cost import (
    Cost,
    better_together,
    cost,
    costs_too_much,
    pads_too_much,
)
from icsnn_deploy.passes.copies import Copies, copies_of, joined
from icsnn_deploy.passes.edit import rewire, unique_name
from icsnn_deploy.passes.merge_parts import groups_of_one_source, merged
from icsnn_deploy.passes.pooling import is_window_sum
from icsnn_deploy.passes.small_integers import small_integers

_SPIKING = (Relu, IF, Input)

_FEW_PARTS = 16
"""Summands that a sum may have beyond two for each node that it comes from."""

_FEW_NODES = 100_000
"""Nodes that a composed network may have beyond ten for each node of the given one."""


def compose(graph: Graph) -> Graph:
    """Rewrite a network with one connection between populations where that is exact and cheap.

    Each sum gets private connections, so that on the lattice it can have its own unit.
    """
    return Composer(graph).run()


class Composer:
    """Composes a network, and knows afterwards what became of its nodes.

    Attributes:
        origin: for each connection of the new network, the node of the given one that it is, or is
            a part of.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}
        self.summands: dict[str, tuple[str, ...]] = {}  # old node -> new nodes whose sum it is
        self.used: set[str] = set()  # connections that have a consumer already
        self.before: dict[tuple[str, str], str] = {}  # source, old node -> the node on that source
        self.names = {node.name for node in graph.nodes}
        self.origin: dict[str, str] = {}
        self.replaced: dict[str, Cost] = {}  # new node -> cost of the old nodes in its place
        self.copies: dict[str, Copies] = {}  # new node -> what its result copies
        self.shared: dict[tuple[str, ...], str] = {}  # copies -> their sum, for all that take it
        self.copying: dict[str, bool] = {}  # new node -> whether it only copies
        self.given = {node.name: node for node in graph.nodes}
        self.merged: set[str] = set()  # old sums whose summands were merged

    def run(self) -> Graph:
        """The composed network."""
        for node in self.graph.nodes:
            self.summands[node.name] = self._summands(node)
            for part in self.summands[node.name]:
                self.origin.setdefault(part, node.name)
        used = walk_back(self.nodes, [self.graph.output.name], lambda node: True)
        names = {node.name for node in used}
        return self.graph.with_nodes(n for n in self.nodes.values() if n.name in names)

    def _summands(self, node: Node) -> tuple[str, ...]:
        if isinstance(node, Add):
            return self._few(node, [s for name in node.inputs for s in self.summands[name]])
        if not isinstance(node, Input):
            parts = self.summands[node.inputs[0]]
            if self._distributes(node, parts):
                return self._distribute(node, parts)
        self._keep(node)
        return (node.name,)

    def _few(self, add: Add, parts: list[str]) -> tuple[str, ...]:
        """The summands of a sum, merged where they are far more than the nodes behind them."""
        if len(parts) <= _FEW_PARTS:
            return tuple(parts)

        def through(node: Node) -> bool:
            return node.name not in self.merged and not isinstance(node, _SPIKING)

        behind = sum(1 for _ in walk_back(self.given, add.inputs, through))
        if len(parts) <= 2 * behind + _FEW_PARTS:
            return tuple(parts)
        self.merged.add(add.name)
        found = {p: cast(Affine, self.nodes[p]) for p in parts if _is_affine(self.nodes[p])}
        shape = self.graph.shape(add.name)
        few = [self._merge(add, g, found, shape) for g in groups_of_one_source(parts, found)]
        if len(few) > 2 * behind + _FEW_PARTS:
            few = [self._sum(add.name, [self._private(part) for part in few])]
        return tuple(few)

    def _merge(
        self, add: Add, group: tuple[str, ...], found: dict[str, Affine], shape: Shape
    ) -> str:
        """Name of one node for summands of one source."""
        if len(group) == 1:
            return group[0]
        name = self._add(merged(self._fresh(f"{add.name}.merged"), group, found, shape))
        self.replaced[name] = sum((self._replaced(part) for part in group), Cost(0, 0))
        return name

    def _distributes(self, node: Node, parts: tuple[str, ...]) -> bool:
        """Whether a node is to be applied to the parts of its input, not to their sum."""
        sources = [self.nodes[part] for part in parts]
        if isinstance(node, Flatten):
            spikes = all(isinstance(source, (Relu, IF, ChannelAffine)) for source in sources)
            return len(parts) > 1 and (spikes or any(map(self._pools_copies, parts)))
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
            copy = self._add(replace(node, name=self._fresh(part)))
            self.replaced[copy] = self._replaced(part)
            self.origin[copy] = self.origin[part]
            part = copy
        self.used.add(part)
        return part

    def _fresh(self, wish: str) -> str:
        name = unique_name(wish, self.names)
        self.names.add(name)
        return name

    def _add(self, node: Node) -> str:
        self.nodes[node.name] = node
        most = _FEW_NODES + 10 * len(self.graph.nodes)
        if len(self.nodes) > most:
            raise GraphError(
                f"composing would need more than {most:,} nodes for the {len(self.graph.nodes):,} "
                f"of this network ({node.name} is one too many): connections follow each other "
                "without a rectifier between them. Put a ReLU between them"
            )
        self.shapes[node.name] = node.output_shape(*(self.shapes[name] for name in node.inputs))
        return node.name

    def _distribute(self, node: Node, parts: tuple[str, ...]) -> tuple[str, ...]:
        """Add nodes whose sum is the node's result: on each part for which that is exact and cheap.

        The other parts are summed first: copies of one population by themselves, so that their sum
        is spikes, and all that are no copies.
        """
        results: list[str] = []
        groups = self._better_together(node, parts)
        grouped = {part for group in groups for part in group}
        copies: list[str] = []
        others: list[str] = []
        for part in parts:
            if part in grouped:
                continue
            applied = self._on(node, part, first=not results)
            if applied is not None:
                name = self._fresh(f"{node.name}.{part}") if results else node.name
                results.append(self._add(replace(applied, name=name)))
                self.replaced[name] = self._replaced(part) + self._cost(node, part)
            elif self._is_copy(part):
                copies.append(part)
            else:
                others.append(part)
        groups += self._joinable(copies) + ([others] if others else [])
        if groups == [others] and not results:
            self._keep(node)
            return (node.name,)
        for group in groups:
            whole = len(group) == len(parts)
            rest = self._rest(group, node.inputs[0] if whole else f"{node.name}.rest")
            name = self._fresh(f"{node.name}.{rest}") if results else node.name
            own = replace(node, name=name, inputs=(rest,))
            results.append(self._add(_unbiased(own) if results else own))
        return tuple(results)

    def _rest(self, group: list[str], name: str) -> str:
        """Name of a single node that is the sum of some parts of a node's input.

        A sum of copies has no unit to choose, so that several connections may take the same.
        """
        if not all(self._is_copy(part) or not _is_affine(self.nodes[part]) for part in group):
            return self._sum(name, [self._private(part) for part in group])
        key = tuple(group)
        if key not in self.shared:
            self.shared[key] = self._sum(name, [self._private(part) for part in group])
        return self.shared[key]

    def _better_together(self, node: Node, parts: tuple[str, ...]) -> list[list[str]]:
        """Groups of copies of spikes to whose sums the node is better applied than to each copy."""
        if len(parts) == 1 or isinstance(node, AvgPool):
            return []
        spikes = [p for p in parts if self._is_copy(p) or isinstance(self.nodes[p], _SPIKING)]
        joinable = [group for group in self._joinable(spikes) if len(group) > 1]
        return [
            group
            for group in joinable
            if any(map(self._is_copy, group))
            and (isinstance(node, Flatten) or self._costs_less_together(node, group))
        ]

    def _costs_less_together(self, node: Node, group: list[str]) -> bool:
        together, separate = self._cost(node, group[0]), Cost(0, 0)
        for part in group:
            applied = self._on(node, part, first=False)
            if applied is None:
                separate += self._cost(node, part)
            else:
                separate += self._cost(applied)
            if self._is_copy(part):
                together += self._cost(self.nodes[part])
        return better_together(separate, together)

    def _joinable(self, copies: list[str]) -> list[list[str]]:
        """Groups of copies whose sum is a copy again: of one channel in each of its channels."""
        groups: list[list[str]] = []
        for part in copies:
            for group in groups:
                if joined([self._copies(name) for name in (*group, part)]) is not None:
                    group.append(part)
                    break
            else:
                groups.append([part])
        return groups

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
        found = composed(own, affine, shapes)
        if found is None or pads_too_much(found, *shapes):
            return None
        several = self._replaced(part) + self._cost(node, part)
        copies = self._is_copy(part)
        return None if costs_too_much(self._cost(found), several, copies=copies) else found

    def _cost(self, node: Node, source: str | None = None) -> Cost:
        """Cost of a node on one source, its own if none is given."""
        return cost(node, node.output_shape(self.shapes[source or node.inputs[0]]))

    def _replaced(self, name: str) -> Cost:
        """Cost of the nodes of the given graph that a node replaces; the input costs nothing."""
        if isinstance(self.nodes[name], Input):
            return Cost(0, 0)
        return self.replaced[name] if name in self.replaced else self._cost(self.nodes[name])

    def _copies(self, name: str) -> Copies:
        """What a node's result copies; itself, where it does more."""
        if name not in self.copies:
            channels = self.shapes[name][0]
            found = copies_of(self.nodes[name], channels, self._copies)
            self.copies[name] = Copies.of_itself(name, channels) if found is None else found
        return self.copies[name]

    def _pools_copies(self, name: str) -> bool:
        """Whether a node is a copy, or a mean over one or over a sum of them."""
        node = self.nodes[name]
        if isinstance(node, AvgPool):
            before = self.nodes[node.inputs[0]]
            pooled = before.inputs if isinstance(before, Add) else node.inputs
            return all(self._is_copy(source) for source in pooled)
        return self._is_copy(name)

    def _is_copy(self, name: str) -> bool:
        """Whether a node is a connection that only copies and counts."""
        if name not in self.copying:
            node, channels = self.nodes[name], self.shapes[name][0]
            self.copying[name] = _is_affine(node) and small_integers(node, channels) is not None
        return self.copying[name]

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
