"""Let a signed sum travel as spikes: x = relu(x) - relu(-x)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, Node, Relu
from icsnn_deploy.passes.affine import pure_scale
from icsnn_deploy.passes.edit import rewire, unique_name

_MOST_SUMMANDS = 10_000
"""Of one node, through sums of sums."""


def split_signed(graph: Graph, summands: Mapping[str, tuple[str, ...]]) -> Graph:
    """Insert two rectifiers before each given node, on the signed part of its input.

        conv a -> add -> conv b                               before
        relu ----/

        conv a -> relu ---------------> add -> conv b         after
               -> -1 -> relu -> -1 ---/
        relu -----------------------/

    The network computes the same function. As populations, the rectifiers pass on spikes, so that
    conv b no longer multiplies sums of weights by weights.

    Args:
        graph: an ANN.
        summands: for each node, the nodes whose sum is the signed part of its input: sources of
            the Add nodes before it, or its own source.
    """
    splitter = _Splitter(graph)
    for name, signed in summands.items():
        splitter.split(name, signed)
    return splitter.graph()


class _Splitter:
    def __init__(self, graph: Graph) -> None:
        self.given = graph
        self.nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
        self.pairs: dict[tuple[str, ...], tuple[str, str]] = {}  # summands -> relu(x), -relu(-x)
        self.counts: dict[str, int] = {}  # node -> summands of it, through sums of sums
        for node in graph.nodes:
            inner = node.inputs if isinstance(node, Add) else ()
            self.counts[node.name] = sum(self.counts[source] for source in inner) if inner else 1

    def graph(self) -> Graph:
        """The network without the sums that are no longer used."""
        while True:
            used = {source for node in self.nodes.values() for source in node.inputs}
            unused = [
                name
                for name, node in self.nodes.items()
                if isinstance(node, Add) and name not in used
            ]
            if not unused:
                return self.given.with_nodes(self.nodes.values())
            for name in unused:
                del self.nodes[name]

    def split(self, name: str, signed: tuple[str, ...]) -> None:
        """Let a node take the pair in the place of the summands."""
        (source,) = self.given.node(name).inputs
        if self.counts[source] > _MOST_SUMMANDS:
            raise GraphError(
                f"{name}: sums of sums before it add more than {_MOST_SUMMANDS:,} results. Put a "
                "ReLU between them, or multiply by a constant instead"
            )
        leaves = self._leaves(source)
        # A summand may occur several times: y + y, (y + r) + y.
        parts = tuple(part for part in signed for _ in range(leaves.count(part)))
        if parts not in self.pairs:
            self.pairs[parts] = self._pair(parts)
        others = [part for part in leaves if part not in signed]
        whole = self._add(Add, f"{name}.input", *others, *self.pairs[parts])
        self.nodes[name] = rewire(self.nodes[name], {source: whole})

    def _leaves(self, name: str) -> list[str]:
        """The summands of a sum, of sums in it too; a node itself that is none."""
        node = self.given.node(name)
        if not isinstance(node, Add):
            return [name]
        return [leaf for source in node.inputs for leaf in self._leaves(source)]

    def _pair(self, signed: tuple[str, ...]) -> tuple[str, str]:
        whole = signed[0] if len(signed) == 1 else self._add(Add, f"{signed[0]}.signed", *signed)
        positive = self._add(Relu, f"{signed[0]}.positive", whole)
        rectified = self._add(Relu, f"{signed[0]}.negative", self._minus(whole, signed[0]))
        return positive, self._minus(rectified, signed[0])

    def _minus(self, source: str, base: str) -> str:
        rank = len(self.given.shape(base))
        name = unique_name(f"{base}.minus", self.nodes)
        self.nodes[name] = pure_scale(name, source, np.full((1,) * rank, -1, np.float32))
        return name

    def _add(self, kind: type[Add] | type[Relu], wish: str, *inputs: str) -> str:
        name = unique_name(wish, self.nodes)
        self.nodes[name] = kind(name=name, inputs=inputs)
        return name
