"""Keep the weights of connections that only copy spikes as the integers that they are.

    if -> crop (weights theta) -> place -> add -> conv -> if        before
    if -> crop (weights 1) -> place -> add -> conv * theta -> if    after

A crop, a padding, a channel picked, an unweighted sum over a window, a bilinear upsampling: their
weights are small integers times one unit per channel (see passes.small_integers). With the unit
moved into the next connection, what that one receives is spikes, or counts of spikes, and all its
bits are left for its own weights. Rounded like trained weights, they would take bits of their own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    Add,
    ChannelAffine,
    Conv,
    Flatten,
    Linear,
    Node,
)
from icsnn_deploy.passes.affine import pure_scale
from icsnn_deploy.passes.convolutions import depthwise
from icsnn_deploy.passes.copies import Copies, copies_of
from icsnn_deploy.passes.edit import GraphEditor
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.small_integers import SmallIntegers, small_integers


def keep_integers(graph: Graph) -> tuple[Graph, frozenset[str]]:
    """Make the weights of copies integers, and their units part of the next connections.

    Args:
        graph: a float IF network, composed and folded, with integer sums in place of poolings.

    Returns:
        the network, and the names of the nodes that are exact: integer connections, and sums of
        them whose summands have one unit.
    """
    kept = _kept(graph)
    if not kept:
        return graph, frozenset()
    return _Rewriter(graph, kept).run()


def _candidates(graph: Graph) -> dict[str, Copies]:
    """The connections and sums that only copy, with what they copy."""
    found: dict[str, Copies] = {}
    for node in graph.nodes:
        copies = _copies_of(graph, node, found)
        if copies is not None:
            found[node.name] = copies
    return found


def _copies_of(graph: Graph, node: Node, known: dict[str, Copies]) -> Copies | None:
    def of_source(name: str) -> Copies:
        return known[name] if name in known else Copies.of_itself(name, graph.shape(name)[0])

    if isinstance(node, ChannelAffine) and node.scale.dtype.kind == "i":
        return None  # a zero point
    if len(graph.shape(node.name)) == 1:  # a vector has no depthwise convolution
        direct = isinstance(node, Add) and not all(name in known for name in node.inputs)
        if direct or isinstance(node, ChannelAffine):
            return None
    return copies_of(node, graph.shape(node.name)[0], of_source)


def _kept(graph: Graph) -> dict[str, Copies]:
    """The candidates whose consumers all take integers as they are."""
    found = _candidates(graph)
    names = list(found)
    while True:
        wrong = [name for name in names if not _is_taken(graph, name, found)]
        if not wrong:
            return found
        names = [name for name in names if name not in wrong]
        known: dict[str, Copies] = {}
        for name in names:  # without those, what the others copy may be less
            copies = _copies_of(graph, graph.node(name), known)
            if copies is not None:
                known[name] = copies
        found, names = known, list(known)


def _is_taken(graph: Graph, name: str, found: dict[str, Copies]) -> bool:
    return all(_takes(graph, found[name], name, consumer, found) for consumer in _uses(graph, name))


def _uses(graph: Graph, name: str) -> list[Node]:
    """The consumers of a node, and those of its flattened result."""
    uses: list[Node] = []
    for consumer in graph.consumers(name):
        uses += _uses(graph, consumer.name) if isinstance(consumer, Flatten) else [consumer]
    return uses


def _takes(
    graph: Graph, copies: Copies, name: str, consumer: Node, found: dict[str, Copies]
) -> bool:
    if isinstance(consumer, (Conv, Linear, ChannelAffine)):
        return True
    if isinstance(consumer, Add):
        return consumer.name in found
    # A population and the output need more than a spike as their current: a connection of several
    # bits. What is copied from such a connection has them.
    sources = [graph.node(source) for source in dict.fromkeys(copies.source[copies.used])]
    is_current = all(isinstance(node, (Conv, Linear)) for node in sources)
    single = not isinstance(graph.node(name), Add) and len(sources) == 1
    return is_current and single and bool((copies.unit == 1).all())


class _Rewriter:
    def __init__(self, graph: Graph, kept: dict[str, Copies]) -> None:
        self.graph = graph
        self.kept = kept
        self.editor = GraphEditor(graph)
        self.exact = set(kept)

    def run(self) -> tuple[Graph, frozenset[str]]:
        for name in self.kept:
            node = self.graph.node(name)
            if isinstance(node, Add):
                self._join(node)
            else:
                self._make_integer(node, self._factor(name))
        for name, copies in self.kept.items():
            self._move_unit(name, copies.unit)
        graph = fold_scales(self.editor.build())
        return graph, frozenset(name for name in self.exact if name in graph)

    def _factor(self, name: str) -> Array:
        """Integer per channel by which a summand is multiplied to have the unit of its sum."""
        unit = self.kept[name].unit if name in self.kept else 1.0
        for consumer in self.graph.consumers(name):
            if isinstance(consumer, Add) and consumer.name in self.kept:
                return np.round(unit / self.kept[consumer.name].unit).astype(np.int64)
        return np.ones(self.graph.shape(name)[0], np.int64)

    def _make_integer(self, node: Node, factor: Array) -> None:
        """Give a connection its integers as weights."""
        found = small_integers(node, self.graph.shape(node.name)[0])
        if found is None or not isinstance(node, (Conv, Linear, ChannelAffine)):
            return
        self.editor.replace(_with_integers(node, found, factor, self.graph.shape(node.name)))

    def _join(self, node: Add) -> None:
        """Give each summand that is no connection one of its own, with the factor as weight."""
        for source in dict.fromkeys(node.inputs):
            connection = source in self.kept and not isinstance(self.graph.node(source), Add)
            if connection and not self.graph.is_shared(source):
                continue
            rank = len(self.graph.shape(source)) - 1
            channels = self.graph.shape(source)[0]
            unit = self.kept[source].unit if source in self.kept else np.ones(channels)
            factor = np.round(unit / self.kept[node.name].unit)
            scale = pure_scale(
                self.editor.fresh_name(f"{node.name}.{source.rpartition('.')[2]}"),
                source,
                np.ones(channels),
            )
            copy = depthwise(scale, factor, np.zeros(channels), ((0, 0),) * rank)
            self.editor.insert_on_edge(source, node.name, _integer(copy))
            self.exact.add(copy.name)

    def _move_unit(self, name: str, unit: Array) -> None:
        """Insert the unit between a node and each consumer that is not exact; folded later."""
        if (unit == 1).all():
            return
        ready = unit.reshape(-1, *(1,) * (len(self.graph.shape(name)) - 1))
        for consumer in dict.fromkeys(self.graph.consumers(name)):
            if consumer.name not in self.kept:
                own = self.editor.fresh_name(f"{name}.unit")
                self.editor.insert_on_edge(name, consumer.name, pure_scale(own, name, ready))


def _with_integers(
    node: Conv | Linear | ChannelAffine, found: SmallIntegers, factor: Array, shape: tuple[int, ...]
) -> Conv | Linear:
    if isinstance(node, ChannelAffine):
        diagonal = depthwise(
            node, found.integers * factor, np.zeros(shape[0]), ((0, 0),) * (len(shape) - 1)
        )
        return _integer(diagonal)
    weight = found.integers * factor.reshape(-1, *(1,) * (node.weight.ndim - 1))
    return _integer(replace(node, weight=weight))


def _integer(node: Conv | Linear) -> Conv | Linear:
    """The node with its weights in the smallest integer type."""
    small = np.abs(node.weight).max() < 2**7
    weight = node.weight.astype(np.int8 if small else np.int16)
    return replace(node, weight=weight, bias=np.zeros(len(weight), np.int8))
