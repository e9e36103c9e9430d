"""Nodes in topological order, and the walk from a node back to what it depends on."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.node import BaseNode

N = TypeVar("N", bound=BaseNode)


def topological(nodes: tuple[N, ...]) -> tuple[N, ...]:
    """Sort the nodes so that each comes after its sources; ties keep the given order.

    Raises:
        GraphError: two nodes of one name, a source that is not there, or a cycle.
    """
    position = {node.name: index for index, node in enumerate(nodes)}
    if len(position) != len(nodes):
        counts = Counter(node.name for node in nodes)
        twice = sorted(name for name, count in counts.items() if count > 1)
        listed = ", ".join(twice[:8]) + (", ..." if len(twice) > 8 else "")
        raise GraphError(f"{listed}: more than one node of this name")
    waiting = {}
    consumers: dict[str, list[str]] = {name: [] for name in position}
    for node in nodes:
        missing = [source for source in node.inputs if source not in position]
        if missing:
            raise GraphError(f"{node.name}: its source {missing[0]!r} is not in the graph")
        waiting[node.name] = len(set(node.inputs))
        for source in set(node.inputs):
            consumers[source].append(node.name)
    ready = [position[name] for name, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        node = nodes[heapq.heappop(ready)]
        order.append(node)
        for consumer in consumers[node.name]:
            waiting[consumer] -= 1
            if waiting[consumer] == 0:
                heapq.heappush(ready, position[consumer])
    if len(order) != len(nodes):
        stuck = [name for name, count in waiting.items() if count > 0]
        raise GraphError(f"a cycle runs through {', '.join(stuck)}")
    return tuple(order)


def walk_back(
    nodes: Mapping[str, N], start: Iterable[str], through: Callable[[N], bool]
) -> Iterator[N]:
    """Yield the nodes named in `start` and what they depend on: nearest first, each once.

    Args:
        nodes: by name.
        start: names of the nodes to begin with.
        through: whether the walk goes on to a node's sources.
    """
    waiting = deque(dict.fromkeys(start))
    seen = set(waiting)
    while waiting:
        node = nodes[waiting.popleft()]
        yield node
        if through(node):
            new = [source for source in dict.fromkeys(node.inputs) if source not in seen]
            waiting += new
            seen.update(new)
