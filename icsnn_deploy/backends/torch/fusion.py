"""Which memoryless nodes a population computes itself, while it reads its current.

    conv ----------------------> add --> population        conv ------> population
    population -> scale -------> add                 =>    population ->

A sum with one consumer, a population, and the scales that only this sum takes, are not stored: the
population reads their sources (backends.torch.population.Term).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from icsnn_deploy.backends.torch.population import MOST_TERMS
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Node, Population


@dataclass(frozen=True, kw_only=True)
class FusedCurrent:
    """The current of a population as a sum of terms.

    Attributes:
        terms: name of each source, and the scale that it goes through, or None.
        nodes: the nodes that compute the same current one after the other.
    """

    terms: tuple[tuple[str, ChannelAffine | None], ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The nodes that are evaluated one by one, and when values can be freed.

    Attributes:
        nodes: those with a source that change over time, without the fused ones.
        fused: currents by the name of their population.
        unused_after: for each node, the values that can be freed after it.
    """

    nodes: tuple[Node, ...]
    fused: Mapping[str, FusedCurrent]
    unused_after: Mapping[str, tuple[str, ...]]


def schedule(graph: Graph, *, fuse: bool) -> Schedule:
    """The schedule of a network; without `fuse` every node is evaluated by itself."""
    constant = graph.constant_nodes()
    fused: dict[str, FusedCurrent] = {}
    if fuse:
        for population in graph.nodes_of(Population):
            found = _fused_current(graph, population, constant)
            if found is not None:
                fused[population.name] = found
    inside = {node.name for current in fused.values() for node in current.nodes}
    nodes = tuple(
        node
        for node in graph.nodes
        if node.inputs and node.name not in constant and node.name not in inside
    )
    last: dict[str, str] = {}
    for node in nodes:
        terms = fused[node.name].terms if node.name in fused else ()
        for source in [name for name, _ in terms] or node.inputs:
            last[source] = node.name
    return Schedule(nodes=nodes, fused=fused, unused_after=_inverted(last, nodes))


def _fused_current(
    graph: Graph, population: Population, constant: frozenset[str]
) -> FusedCurrent | None:
    """The current of a population, if a sum or a scale before it can be fused."""

    def belongs(node: Node) -> bool:
        return node.name not in constant and not graph.is_shared(node.name)

    source = graph.node(population.inputs[0])
    total = source if isinstance(source, Add) and belongs(source) else None
    names = (source.name,) if total is None else total.inputs
    scales = [
        node if isinstance(node, ChannelAffine) and belongs(node) else None
        for node in map(graph.node, names)
    ]
    nodes = [node for node in (*scales, total) if node is not None]
    if not nodes or len(names) > MOST_TERMS:
        return None
    terms = tuple(
        (name if scale is None else scale.inputs[0], scale)
        for name, scale in zip(names, scales, strict=True)
    )
    return FusedCurrent(terms=terms, nodes=tuple(nodes))


def _inverted(last: Mapping[str, str], nodes: Iterable[Node]) -> dict[str, tuple[str, ...]]:
    spent: dict[str, list[str]] = {node.name: [] for node in nodes}
    for source, name in last.items():
        spent[name].append(source)
    return {name: tuple(sources) for name, sources in spent.items()}
