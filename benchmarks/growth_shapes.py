"""Networks of a given number of nodes, in the shapes whose costs could explode.

chain       connection -> population, one after the other
residual    a sum with an identity shortcut before each second population
dense       each population takes all before it, by a connection of its own for each
nested      x + x of x + x, without a population between the sums
linear      y = W y + y, again and again, without a population between the sums
wide        as many populations beside each other, summed
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Add, ChannelAffine, Input, Linear, Node, Output

FEATURES = 3
"""Values of every result: the cost of a node itself is not what is measured."""


class _Draft:
    """Nodes of an integer network under construction."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = [Input(name="input", shape=(FEATURES,), dtype="uint8")]

    def _add(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def connection(self, source: str) -> str:
        """A fully connected layer of 4-bit weights."""
        weight = self.rng.integers(-7, 8, (FEATURES, FEATURES)).astype(np.int8)
        bias = self.rng.integers(-7, 8, FEATURES).astype(np.int8)
        return self._add(
            Linear(name=self._name("linear"), inputs=(source,), weight=weight, bias=bias)
        )

    def population(self, source: str) -> str:
        """Neurons of threshold 8."""
        return self._add(
            IF(
                name=self._name("if"),
                inputs=(source,),
                v_threshold=np.array([8], np.int32),
                v_init=np.array([3.5], np.float32),
            )
        )

    def shortcut(self, source: str) -> str:
        """A diagonal connection."""
        return self._add(
            ChannelAffine(
                name=self._name("scale"),
                inputs=(source,),
                scale=np.array([3], np.int8),
                shift=np.array([0], np.int8),
            )
        )

    def total(self, *sources: str) -> str:
        """The sum of two or more results; of one, that result."""
        if len(sources) == 1:
            return sources[0]
        return self._add(Add(name=self._name("add"), inputs=sources))

    def graph(self, last: str, time_steps: int) -> Graph:
        """The network that ends in a fully connected layer."""
        self._add(Output(name="output", inputs=(self.connection(last),)))
        return Graph(nodes=tuple(self.nodes), time_steps=time_steps)


def _chain(draft: _Draft, size: int) -> str:
    last = "input"
    while len(draft.nodes) < size - 2:
        last = draft.population(draft.connection(last))
    return last


def _residual(draft: _Draft, size: int) -> str:
    last = draft.population(draft.connection("input"))
    while len(draft.nodes) < size - 2:
        inner = draft.connection(draft.population(draft.connection(last)))
        last = draft.population(draft.total(inner, draft.shortcut(last)))
    return last


def _dense(draft: _Draft, size: int) -> str:
    made = [draft.population(draft.connection("input"))]
    while len(draft.nodes) < size - 2:
        current = draft.total(*(draft.connection(one) for one in made))
        made.append(draft.population(current))
    return made[-1]


def _nested(draft: _Draft, size: int) -> str:
    last = draft.population(draft.connection("input"))
    while len(draft.nodes) < size - 2:
        last = draft.total(last, last)
    return last


def _linear(draft: _Draft, size: int) -> str:
    last = draft.population(draft.connection("input"))
    while len(draft.nodes) < size - 2:
        last = draft.total(draft.connection(last), last)
    return last


def _wide(draft: _Draft, size: int) -> str:
    first = draft.population(draft.connection("input"))
    branches = [draft.population(draft.connection(first)) for _ in range(max(2, size // 3))]
    return draft.total(*(draft.connection(branch) for branch in branches))


SHAPES: dict[str, Callable[[_Draft, int], str]] = {
    "chain": _chain,
    "residual": _residual,
    "dense": _dense,
    "nested": _nested,
    "linear": _linear,
    "wide": _wide,
}


def network(shape: str, size: int, *, time_steps: int = 4, seed: int = 0) -> Graph:
    """An integer network of about that many nodes.

    Args:
        shape: a name of SHAPES.
        size: number of nodes.
        time_steps: T.
        seed: of the weights.
    """
    draft = _Draft(seed)
    return draft.graph(SHAPES[shape](draft, size), time_steps)
