"""Find the signed sums that would not certify on the lattice, and let them travel as spikes.

Where a connection follows another one without a rectifier, and both can't be one connection (two
padded convolutions; b + relu(a - b) before a convolution), the lattice multiplies sums of 8-bit
weights by 8-bit weights. The bound of the next population then passes what float32 can hold, or
leaves a few bits per weight. Two rectifiers between them are cheap, and change no result.

The bounds are estimates from the weights, with the largest activations as thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.statistics import collect_statistics
from icsnn_deploy.conversion.range_estimates import LARGEST_WEIGHT, Estimate, estimate
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.graph.certificate import FLOAT32_INTEGER, FLOAT32_POTENTIAL
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    LINEAR_NODES,
    Add,
    ChannelAffine,
    Conv,
    Input,
    Linear,
    Node,
    Output,
    Population,
    Relu,
)
from icsnn_deploy.passes.compose import Composer
from icsnn_deploy.passes.small_integers import small_integers
from icsnn_deploy.passes.split_signed import split_signed

_THRESHOLD = 2**16
"""Steps of a threshold, at most (see lattice.round_network)."""

_SAMPLES = 64  # that the thresholds are measured on

_FEWEST = 16
"""Largest weight, in integer steps, that a connection needs beside others of the same sum."""


def certifiable(ann: Graph, time_steps: int, context: CalibrationContext) -> Graph:
    """The ANN with relu(x) - relu(-x) for each signed x that 8-bit weights would not certify with.

    Args:
        ann: a traced ANN.
        time_steps: T that its IF network will run for.
        context: samples, for the ranges of input and activations.

    Returns:
        the same network where every layer certifies with 8-bit weights, or no rectifier helps.
    """
    if not ann.nodes_of(Relu):
        return ann
    while True:
        if not _Network(Composer(ann).run(), {}).followers:
            return ann  # the rule; nothing has to be measured
        few = context.part(0, min(len(context), _SAMPLES))
        largest = {
            name: float(layer.maximum.max()) or 1.0
            for name, layer in collect_statistics(ann, few).layers.items()
        }
        spiking = _with_thresholds(ann, largest, time_steps)
        composer = Composer(spiking)
        reached = float(np.abs(few.frames(slice(None))).max()) or 1.0
        network = _Network(composer.run(), {ann.input.name: reached})
        wanted = {composer.origin[name] for name in network.to_split()}
        found = [
            _signed(ann, spiking, composer, network, node.name)
            for node in spiking.nodes
            if node.name in wanted
        ]
        found = [summands for summands in found if summands]
        if not found:
            return ann
        last = set(found[-1].values())
        chosen = {n: s for summands in found for n, s in summands.items() if s in last}
        ann = split_signed(ann, chosen)


def _with_thresholds(ann: Graph, largest: Mapping[str, float], time_steps: int) -> Graph:
    """The IF network with the largest activation of each layer as its threshold."""
    parameters = {}
    for relu in ann.nodes_of(Relu):
        v_threshold = np.full((1,) * len(ann.shape(relu.name)), largest[relu.name], np.float32)
        parameters[relu.name] = PopulationParameters(
            v_threshold=v_threshold, v_init=v_threshold / 2
        )
    return to_spiking(ann, parameters, time_steps)


def _signed(
    ann: Graph, spiking: Graph, composer: Composer, network: _Network, name: str
) -> dict[str, tuple[str, ...]]:
    """Where a node's input is no spikes: sums before it, and their summands that are none.

    Returns:
        for each node that takes such a sum (the node itself, or a pooling before it) the
        connections that it is a sum of.
    """
    reaching = {
        composer.origin[part]
        for own, origin in composer.origin.items()
        if origin == name and own in network.graph
        for part in network.analog_sources(own)
        if composer.origin.get(part, "") in ann  # a constant may be part of an amplitude
    }
    found: dict[str, tuple[str, ...]] = {}
    sinks = [spiking.node(name)]
    while sinks:
        sink = sinks.pop()

        def is_leaf(node: Node) -> bool:
            return node.name in reaching and _is_rounded(spiking, node)

        leaves = [
            node.name for node in _summed(spiking, sink.inputs[::-1], step=1) if is_leaf(node)
        ]
        sinks += [
            node
            for node in _summed(spiking, sink.inputs, step=-1)[::-1]
            if not is_leaf(node) and not _is_source(node)  # part of the composed connection
        ]
        if leaves:
            found[sink.name] = tuple(leaves)
    return found


def _summed(graph: Graph, names: Sequence[str], *, step: int) -> list[Node]:
    """The results that nodes add, through sums of sums, each once.

    Args:
        graph: the network.
        names: of the nodes.
        step: 1 to follow the inputs of a sum from the last to the first, -1 from first to last.
    """
    found: dict[str, Node] = {}
    seen: set[str] = set()
    waiting = list(names[::-1])
    while waiting:
        node = graph.node(waiting.pop())
        if node.name in seen:
            continue
        seen.add(node.name)
        if isinstance(node, Add):
            waiting += node.inputs[::step]
        else:
            found[node.name] = node
    return list(found.values())


class _Network:
    """Bounds of a composed network, estimated from its weights.

    Args:
        graph: the network.
        reached: largest magnitude of the samples, by name of the input.
    """

    def __init__(self, graph: Graph, reached: Mapping[str, float]) -> None:
        self.graph = graph
        self.estimates: dict[str, Estimate] = {}
        for node in graph.nodes:
            sources = [self.estimates[name] for name in node.inputs]
            found = estimate(node, sources, graph.shape(node.name), reached.get(node.name, 1.0))
            found.analog = found.analog or _is_rounded(graph, node)
            self.estimates[node.name] = found
        self.followers = [
            node.name
            for node in graph.nodes
            if _is_rounded(graph, node) and self.estimates[node.inputs[0]].analog
        ]

    def to_split(self) -> list[str]:
        """Connections that take the results of others, in sums that would not certify."""
        found: dict[str, None] = {}
        for sink in self.graph.nodes_of(Population, Output):
            unit = self._unit(sink)
            if self._is_beyond(sink, unit):
                before = self.graph.ancestors(sink.name, lambda n: isinstance(n, LINEAR_NODES))
                found |= dict.fromkeys(n.name for n in before if n.name in self.followers)
            summands = self.graph.ancestors(sink.name, lambda n: isinstance(n, Add))
            found |= self._too_fine([node.name for node in summands], unit)
        for add in self.graph.nodes_of(Add):  # before a pooling or flattening, too
            found |= self._too_fine(add.inputs, _positive(self.estimates[add.name].unit))
        return list(found)

    def _too_fine(self, summands: Sequence[str], unit: Array) -> dict[str, None]:
        """Followers whose weights would be a few steps at most in the unit of their sum.

        Args:
            summands: names of the nodes that are summed, and of sums of them.
            unit: of the sum, [C, 1, ...], > 0.
        """
        found: dict[str, None] = {}
        for name in summands:
            levels = LARGEST_WEIGHT * self.estimates[name].unit / unit
            levels = levels[levels > 0]
            if name in self.followers and levels.size and np.median(levels) < _FEWEST:
                found[name] = None
        return found

    def _unit(self, sink: Population | Output) -> Array:
        """The value of one integer step of the current of a population, or of the logits."""
        unit = self.estimates[sink.inputs[0]].unit
        if isinstance(sink, IF):
            unit = np.maximum(unit, sink.v_threshold.max() / _THRESHOLD)
        else:
            unit = np.full_like(unit, unit.max())
        return _positive(unit)

    def analog_sources(self, name: str) -> list[str]:
        """The connections, and what is between, that a connection takes the results of."""
        nodes = self.graph.ancestors(
            name, lambda n: not _is_source(n) and not _is_rounded(self.graph, n)
        )
        return [node.name for node in nodes if self.estimates[node.name].analog]

    def _is_beyond(self, sink: Population | Output, unit: Array) -> bool:
        """Whether the bound of a population, or of the output, passes what float32 can hold."""
        source = self.estimates[sink.inputs[0]]
        low, high = (float((np.abs(end) / unit).max()) for end in source.ends)
        if isinstance(sink, Output):
            return self.graph.steps * max(low, high) >= FLOAT32_INTEGER
        drift = 0.0 if source.steady else self.graph.steps * low
        return max(low, high) + drift >= FLOAT32_POTENTIAL


def _positive(unit: Array) -> Array:
    """A unit to divide by: 1 for channels that are always zero."""
    positive: Array = np.where(unit > 0, unit, 1.0)
    return positive


def _is_source(node: Node) -> bool:
    return isinstance(node, (Input, Population, Relu))


def _is_rounded(graph: Graph, node: Node) -> bool:
    """Whether a node is a connection that is rounded: no copy, no normalization of input."""
    if not isinstance(node, (Conv, Linear, ChannelAffine)):
        return False
    if isinstance(node, ChannelAffine) and isinstance(graph.node(node.inputs[0]), Input):
        return False  # it becomes an integer zero point, and part of the next weights
    return small_integers(node, graph.shape(node.name)[0]) is None
