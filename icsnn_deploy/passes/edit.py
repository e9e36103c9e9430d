"""Edit a graph: insert, replace and remove nodes. Every pass uses these functions.

    a -> b       insert_on_edge(graph, "a", "b", n)        a -> n -> b
    a -> c                                                 a -> c

    a -> b       insert_after(graph, "a", n)               a -> n -> b
    a -> c                                                      n -> c

A pass with several edits uses one GraphEditor, and builds one Graph at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import TypeVar

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Node, Shape

N = TypeVar("N", bound=Node)


def insert_after(graph: Graph, name: str, node: Node) -> Graph:
    """Insert a node after `name`; all consumers of `name` take it instead.

    Raises:
        GraphError: the node has other sources than `name`, or its name exists.
    """
    editor = GraphEditor(graph)
    editor.insert_after(name, node)
    return editor.build()


def insert_on_edge(graph: Graph, source: str, sink: str, node: Node) -> Graph:
    """Insert a node between `source` and `sink`; other consumers of `source` keep it.

    A sink that takes the source twice takes the node twice.

    Raises:
        GraphError: there is no such edge, the node has other sources than `source`, or its name
            exists.
    """
    editor = GraphEditor(graph)
    editor.insert_on_edge(source, sink, node)
    return editor.build()


def rewire(node: Node, renamed: Mapping[str, str]) -> Node:
    """Return the node with its sources renamed; the same object if none is."""
    inputs = tuple(renamed.get(source, source) for source in node.inputs)
    return node if inputs == node.inputs else replace(node, inputs=inputs)


def unique_name(wish: str, taken: Iterable[str]) -> str:
    """Return `wish`, or the first of `wish_1`, `wish_2`... that is not taken."""
    used = taken if isinstance(taken, (Set, Mapping)) else set(taken)
    number = 0
    name = wish
    while name in used:
        number += 1
        name = f"{wish}_{number}"
    return name


def fresh_name(graph: Graph, wish: str) -> str:
    """Return `wish`, or the first of `wish_1`, `wish_2`... that no node of the graph has."""
    return unique_name(wish, (node.name for node in graph.nodes))


class GraphEditor:
    """A draft of a graph: applies edits in sequence, and builds one checked Graph at the end.

    A node that is new, or whose inputs changed, is placed after every node that does not depend on
    it. That is where Graph sorts a node that is given last. The order of the nodes is part of a
    graph's hash, so the result is the same as if a Graph were built after every edit.
    """

    def __init__(self, graph: Graph) -> None:
        self._start = graph
        self._nodes = {node.name: node for node in graph.nodes}  # in topological order
        self._shapes = {node.name: graph.shape(node.name) for node in graph.nodes}
        self._rank = {node.name: index for index, node in enumerate(graph.nodes)}
        self._next = len(graph.nodes)  # rank of the node that is placed last
        self._takers: dict[str, dict[str, int]] = {name: {} for name in self._nodes}
        for node in graph.nodes:  # name -> its consumers, and how often each takes it
            self._connect(node, 1)
        self._replaced: set[str] = set()
        self._rewired = False

    def build(self) -> Graph:
        """Return the graph with all edits; raises GraphError if it is not valid."""
        if not self._rewired:
            return self._start.replace(*(self._nodes[name] for name in sorted(self._replaced)))
        return self._start.with_nodes(self._nodes.values())

    def node(self, name: str) -> Node:
        """Return the node of that name; raises GraphError."""
        try:
            return self._nodes[name]
        except KeyError:
            raise GraphError(f"no node {name!r}; there are {', '.join(self._nodes)}") from None

    def nodes_of(self, *types: type[N]) -> tuple[N, ...]:
        """Return the nodes of these types, in topological order."""
        return tuple(node for node in self._nodes.values() if isinstance(node, types))

    def shape(self, name: str) -> Shape:
        """Return the shape of a node's result, without time and batch."""
        return self._shapes[self.node(name).name]

    def consumers(self, name: str) -> tuple[Node, ...]:
        """Return the nodes that take this one; one that takes it twice is listed twice."""
        takers = self._takers[self.node(name).name]
        ordered = sorted(takers, key=self._rank.__getitem__) if len(takers) > 1 else takers
        return tuple(self._nodes[each] for each in ordered for _ in range(takers[each]))

    def is_shared(self, name: str) -> bool:
        """Whether this node is taken more than once."""
        takers = self._takers[self.node(name).name]
        return len(takers) > 1 or any(count > 1 for count in takers.values())

    def fresh_name(self, wish: str) -> str:
        """Return `wish`, or the first of `wish_1`, `wish_2`... that no node has."""
        return unique_name(wish, self._nodes)

    def replace(self, *nodes: Node) -> None:
        """Replace the node of the same name by each node; its shape must be the same.

        Its sources must come before it.
        """
        for node in nodes:
            self._set(node)
            self._measure(node)

    def remove(self, name: str) -> None:
        """Remove a node of one input; its consumers take that input instead."""
        (source,) = self.node(name).inputs
        self._rename(name, source)
        self._drop(name)

    def discard(self, name: str) -> None:
        """Remove a node that has no consumers."""
        consumers = self.consumers(name)
        if consumers:
            raise GraphError(
                f"{name}: is an input of {consumers[0].name}; only an unused node can be discarded"
            )
        self._drop(name)

    def insert_after(self, name: str, node: Node) -> None:
        """Insert a node after `name`; all consumers of `name` take it instead."""
        self._check_new(node, name)
        self._rename(name, node.name)
        self._append(node)

    def insert_on_edge(self, source: str, sink: str, node: Node) -> None:
        """Insert a node between `source` and `sink`; other consumers of `source` keep it."""
        self._check_new(node, source)
        taker = self.node(sink)
        if source not in taker.inputs:
            raise GraphError(f"{sink}: takes {', '.join(taker.inputs)}, not {source!r}")
        self._set(rewire(taker, {source: node.name}))
        self._append(node)

    def insert_on_input(self, sink: str, position: int, node: Node) -> None:
        """Insert a node before one input of `sink`, the only one if it takes a source twice."""
        taker = self.node(sink)
        self._check_new(node, taker.inputs[position])
        inputs = (*taker.inputs[:position], node.name, *taker.inputs[position + 1 :])
        self._set(replace(taker, inputs=inputs))
        self._append(node)

    def insert_before(self, sink: str, nodes: Sequence[Node]) -> None:
        """Insert a node before each input of `sink`, in the order of the inputs."""
        taker = self.node(sink)
        if len(nodes) != len(taker.inputs):
            raise GraphError(f"{sink}: {len(nodes)} nodes for {len(taker.inputs)} inputs")
        for source, node in zip(taker.inputs, nodes, strict=True):
            self._check_new(node, source)
        self._set(replace(taker, inputs=tuple(node.name for node in nodes)))
        self._append(*nodes)

    def substitute(self, name: str, nodes: Sequence[Node]) -> None:
        """Replace a node by a chain of nodes; its consumers take the last node of the chain."""
        shape, last = self.shape(name), nodes[-1].name
        self._rename(name, last)
        self._drop(name)
        for node in nodes:
            self._check_name(node)
        self._append(*nodes)
        if self.shape(last) != shape:
            raise GraphError(
                f"{last}: shape {self.shape(last)}, but {name}, which it replaces, has {shape}"
            )

    def _check_new(self, node: Node, source: str) -> None:
        if node.inputs != (source,):
            raise GraphError(f"{node.name}: must have {source!r} as its only source")
        self._check_name(node)

    def _check_name(self, node: Node) -> None:
        if node.name in self._nodes:
            raise GraphError(f"{node.name}: more than one node of this name")

    def _connect(self, node: Node, count: int) -> None:
        """Add a node to the consumers of its sources, or with -1 take it out."""
        for source in node.inputs:
            takers = self._takers.setdefault(source, {})
            takers[node.name] = takers.get(node.name, 0) + count
            if not takers[node.name]:
                del takers[node.name]

    def _set(self, node: Node) -> None:
        """Put a node in the place of the one of its name."""
        before = self.node(node.name)
        self._nodes[node.name] = node
        self._replaced.add(node.name)
        if node.inputs != before.inputs:
            self._connect(before, -1)
            self._connect(node, 1)
            self._rewired = True

    def _drop(self, name: str) -> None:
        self._connect(self._nodes[name], -1)
        del self._nodes[name], self._shapes[name], self._rank[name]
        self._rewired = True

    def _rename(self, name: str, other: str) -> None:
        """Replace a node by another in the inputs of its consumers."""
        if other != name:
            for taker in dict.fromkeys(self.consumers(name)):
                self._set(rewire(taker, {name: other}))

    def _append(self, *added: Node) -> None:
        """Add nodes after all nodes that do not depend on them."""
        self._rewired = True
        after = self._dependents(node.name for node in added)
        for node in added:
            self._place(node)
            self._connect(node, 1)
        for name in after:
            self._place(self._nodes.pop(name))
        for node in added:
            self._measure(node)

    def _dependents(self, names: Iterable[str]) -> list[str]:
        """The nodes that depend on any of these, in topological order."""
        found: set[str] = set()
        left = list(names)
        while left:
            takers = self._takers.get(left.pop(), {}).keys() - found
            found |= takers
            left += takers
        return sorted(found, key=self._rank.__getitem__)

    def _place(self, node: Node) -> None:
        """Put a node that is not there after all others."""
        self._nodes[node.name] = node
        self._takers.setdefault(node.name, {})
        self._rank[node.name] = self._next
        self._next += 1

    def _measure(self, node: Node) -> None:
        """Store a node's shape; it must not change, because shapes of later nodes depend on it."""
        shape = node.output_shape(*(self.shape(source) for source in node.inputs))
        if self._shapes.setdefault(node.name, shape) != shape:
            raise GraphError(
                f"{node.name}: shape {shape}, but the node that it replaces has "
                f"{self._shapes[node.name]}"
            )
