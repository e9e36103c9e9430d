"""Cut an IF network in two: a host part with its first populations, and a chip part.

    input -> conv1 -> if1 -> conv2 -> if2 -> fc -> output      before

    input -> conv1 -> if1 -> output                            host: analog values in, spikes out
    if1 (input, events) -> conv2 -> if2 -> fc -> output        chip: spikes in, logits out

The host part has the populations whose current is the same at every step, and everything before
them. Several of them are blocks of channels in the one input of the chip part:

    if1 -> place1 -+                    spikes (input, events) -> if1 (picks its channels) -> ...
    if2 -> place2 -+-> add -> output    spikes (input, events) -> if2 (picks its channels) -> ...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.errors import GraphError, lines
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    Add,
    Conv,
    Input,
    Linear,
    Node,
    Output,
    Part,
    Population,
    Shape,
)
from icsnn_deploy.passes.edit import unique_name


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitNetwork:
    """The two parts of a network; both run its T steps.

    Attributes:
        host: takes the input of the whole network. Its logits are the firing rates of its
            populations, arranged as the input of the chip part.
        chip: takes the spikes of the host's populations, uint8 [T, B, *shape], at the step in which
            they are fired. Its populations, thresholds and readout are those of the whole network.
        populations: the host's, in the order of their channels in the chip's input.
    """

    host: Graph
    chip: Graph
    populations: tuple[str, ...]


def split_first_layer(graph: Graph) -> SplitNetwork:
    """Cut a network behind its first populations; both parts together give its spikes and logits.

    A single first population gives its name to the chip's input. Several need maps of one size;
    they are `parts` of the chip's input, by name (see arrangement.pack_inputs), and `parts` of the
    host's output.

    Args:
        graph: an IF network with direct encoding.

    Raises:
        GraphError: an ANN, spikes as input already, a sum of analog values and spikes, or first
            populations that one input can't hold; names the node and what to do.
    """
    steps = graph.steps
    constant = _analog_nodes(graph)
    populations = [
        node for node in graph.nodes if isinstance(node, Population) and node.inputs[0] in constant
    ]
    _check(graph, constant, populations)
    blocks = _Blocks.of(graph, populations)
    before = [node for node in graph.nodes if node.name in constant]
    after = [n for n in graph.nodes if n.name not in constant and n not in populations]
    names = tuple(population.name for population in populations)
    record = {"graph_hash": graph.hash(), "host_populations": list(names)}
    host = Graph(
        nodes=(*before, *populations, *blocks.host_end(graph.output.name, graph)),
        time_steps=steps,
        output_unit=1.0,
        max_pools=graph.max_pools,
        tasks=dict.fromkeys(names, "regression"),
        provenance={**graph.provenance, "split": {"part": "host", **record}},
    )
    chip = replace(
        graph,
        nodes=blocks.chip_nodes(graph, after),
        provenance={**graph.provenance, "split": {"part": "chip", **record}},
    )
    return SplitNetwork(host=host, chip=chip, populations=names)


def _analog_nodes(graph: Graph) -> frozenset[str]:
    """Nodes that the analog input alone determines; raises GraphError where it is spikes."""
    if graph.input.is_timed:
        raise GraphError(
            f"{graph.input.name}: takes spikes already ({graph.input.encoding} encoding); only the "
            "first layer of a network with analog input (direct encoding) is split off"
        )
    return graph.constant_nodes()


def _check(graph: Graph, constant: frozenset[str], populations: Sequence[Population]) -> None:
    """Raise GraphError where a path from the input reaches the chip without a host population."""
    if not populations:
        raise GraphError("the network has no population: there are no spikes to send to a chip")
    names = {population.name for population in populations}
    mixed = [
        node
        for node in graph.nodes
        if node.name not in names | constant and not constant.isdisjoint(node.inputs)
    ]
    listed = []
    for node in mixed:
        analog = [name for name in dict.fromkeys(node.inputs) if name in constant]
        spiking = [name for name in dict.fromkeys(node.inputs) if name not in constant]
        beside = f" beside {', '.join(spiking)}" if spiking else ""
        listed.append(
            f"{node.name} ({node.kind}): takes {', '.join(analog)}{beside} from the analog input "
            "without a population between them"
        )
    if listed:
        raise GraphError(
            lines(
                "the first layer can't be split off, because the chip would need analog values:",
                listed,
                "Every path from the input needs a population: put a ReLU on it in the model, "
                "before the sum, and convert again",
            )
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Blocks:
    """The first populations as blocks of channels, one after the other."""

    parts: tuple[Part, ...]
    shape: Shape  # of all of them together
    is_integer: bool

    @classmethod
    def of(cls, graph: Graph, populations: Sequence[Population]) -> _Blocks:
        """Raises GraphError where one input can't hold them."""
        parts = tuple(Part(p.name, graph.shape(p.name)) for p in populations)
        if len({part.shape[1:] for part in parts}) != 1:
            listed = ", ".join(f"{part.name} {list(part.shape)}" for part in parts)
            raise GraphError(
                f"the first populations have maps of different sizes: {listed}. The chip has one "
                "input, in which they are channels of one map. Give the layers before them the "
                "same stride and the same number of axes, or join their paths in the model before "
                "the first ReLU, and convert again"
            )
        channels = sum(part.shape[0] for part in parts)
        return cls(parts=parts, shape=(channels, *parts[0].shape[1:]), is_integer=graph.is_integer)

    @property
    def starts(self) -> dict[str, int]:
        """The first channel of each population."""
        counts = [part.shape[0] for part in self.parts]
        ends = np.cumsum([0, *counts])
        return {part.name: int(end) for part, end in zip(self.parts, ends, strict=False)}

    def host_end(self, output: str, graph: Graph) -> list[Node]:
        """The readout of the host: the spikes of every population, each in its channels."""
        if len(self.parts) == 1:
            name = self.parts[0].name
            return [Output(name=output, inputs=(name,), parts=self.parts)]
        taken = [node.name for node in graph.nodes]
        placed: list[Node] = []
        for part in self.parts:
            name = unique_name(f"{part.name}.place", taken)
            taken.append(name)
            placed.append(self._pick(name, part.name, self._one_hot(part).T))
        add = Add(name=unique_name("spikes", taken), inputs=tuple(node.name for node in placed))
        index = np.arange(math.prod(self.shape))
        end = Output(name=output, inputs=(add.name,), parts=self.parts, index=index)
        return [*placed, add, end]

    def chip_nodes(self, graph: Graph, after: Sequence[Node]) -> tuple[Node, ...]:
        """The input of the chip, what picks the channels of each population, and the rest."""
        if len(self.parts) == 1:
            return (_events(self.parts[0].name, self.shape), *after)
        name = unique_name("spikes", [node.name for node in graph.nodes])
        index = np.arange(math.prod(self.shape)).reshape(self.shape)
        source = replace(_events(name, self.shape), parts=self.parts, index=index)
        # An integer network is exact in any order of summation. In a float one, zeros among the
        # weights could change how a sum is rounded.
        rest = [self._widened(node, name) for node in after] if self.is_integer else list(after)
        used = {each for node in rest for each in node.inputs}
        picks = [
            self._pick(part.name, name, self._one_hot(part))
            for part in self.parts
            if part.name in used
        ]
        return (source, *picks, *rest)

    def _one_hot(self, part: Part) -> Array:
        """[channels of the population, channels of all]: 1 where they are the same."""
        dtype = np.int8 if self.is_integer else np.float32
        return np.eye(part.shape[0], self.shape[0], self.starts[part.name], dtype=dtype)

    def _pick(self, name: str, source: str, weight: Array) -> Node:
        """A connection that copies channels."""
        bias = np.zeros(len(weight), weight.dtype)
        axes = len(self.shape) - 1
        if not axes:
            return Linear(name=name, inputs=(source,), weight=weight, bias=bias)
        return Conv(
            name=name,
            inputs=(source,),
            weight=weight.reshape(*weight.shape, *(1,) * axes),
            bias=bias,
            stride=(1,) * axes,
            padding=((0, 0),) * axes,
            dilation=(1,) * axes,
        )

    def _widened(self, node: Node, source: str) -> Node:
        """A dense connection from a population takes the whole input instead, with weights 0."""
        part = next((part for part in self.parts if part.name in node.inputs), None)
        if part is None or not isinstance(node, (Conv, Linear)):
            return node
        if isinstance(node, Conv) and node.groups != 1:
            return node
        shape = (node.weight.shape[0], self.shape[0], *node.weight.shape[2:])
        weight = np.zeros(shape, node.weight.dtype)
        start = self.starts[part.name]
        weight[:, start : start + part.shape[0]] = node.weight
        return replace(node, inputs=(source,), weight=weight)


def _events(name: str, shape: Shape) -> Input:
    return Input(name=name, shape=shape, dtype="uint8", encoding="events")
