"""The network as accumulators that connections add into.

Between two populations a network is linear. Each population, the readout, and each sum that another
connection reads becomes an accumulator; every connection adds into one:

    if1 -> conv -> add -> if2                  before
    if1 -> scale -> add

    if2 = { conv of if1, scale of if1 }        after
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.c.arrange import MapSize, is_sum_pool, per_channel_or_neuron
from icsnn_deploy.exporters.c.names import identifiers
from icsnn_deploy.exporters.c.widths import Width, input_width, ranges_of, width_of, width_of_values
from icsnn_deploy.graph.certificate import Bound, certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.interval import Range
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    ChannelAffine,
    Conv,
    Flatten,
    Linear,
    Node,
    Output,
    Population,
    Shape,
)

MOST_TOGETHER = 8
"""Steps of a layer that a computer runs before the next layer, at most."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a connection reads.

    Args:
        name: C identifier.
        size: of the map.
        values: type of the values; None: spikes, as a list of channels per pixel.
        flattened: whether the connection takes the map as a vector in the order (C, H, W).
        window: pixels (height, width) that are one of this map, as the sum of their spikes; their
            lists follow one another.
        constant: whether the values are the same at every step.
    """

    name: str
    size: MapSize
    values: Width | None
    flattened: bool = False
    window: tuple[int, int] = (1, 1)
    constant: bool = False

    @property
    def lists(self) -> int:
        """Number of lists of spikes, one of each pixel of the population."""
        return self.size.pixels * math.prod(self.window)


@dataclass(frozen=True, kw_only=True, eq=False)
class Connection:
    """One connection: `node` is None where the source is added as it is."""

    node: Conv | Linear | ChannelAffine | None
    name: str
    source: Source


@dataclass(frozen=True, kw_only=True, eq=False)
class Accumulator:
    """A population, the readout, or a sum that another connection reads.

    Args:
        node: the population, the output, or the last node of the sum.
        name: C identifier.
        role: what happens with the sum.
        constant: a sum that is the same at every step.
        connections: run at every step; of a constant sum, once.
        constant_connections: run once, into a current that is kept.
        bias: [C] or [P, C], int64.
        sum_width: type of the sum of one step.
        bound: of the certificate; None for a sum.
        potential: type of the potentials; None without a population.
        parameter: type of bias and, of a population, thresholds and potentials set.
        in_place: whether spikes are added to the potentials themselves.
        window: pixels (height, width) whose lists of spikes follow one another.
    """

    node: Node
    name: str
    role: Literal["population", "values", "output"]
    size: MapSize
    shape: Shape
    constant: bool
    connections: tuple[Connection, ...]
    constant_connections: tuple[Connection, ...]
    bias: Array
    sum_width: Width
    parameter: Width
    bound: Bound | None = None
    potential: Width | None = None
    in_place: bool = False
    window: tuple[int, int] = (1, 1)

    @property
    def population(self) -> IF:
        """The population."""
        assert isinstance(self.node, IF), f"{self.name} is no population"
        return self.node


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A network as accumulators, in the order in which they are computed."""

    graph: Graph
    input: Source
    accumulators: tuple[Accumulator, ...]

    @property
    def populations(self) -> tuple[Accumulator, ...]:
        """The accumulators of populations."""
        return tuple(each for each in self.accumulators if each.role == "population")

    @property
    def output(self) -> Accumulator:
        """The readout."""
        return self.accumulators[-1]

    @property
    def steps(self) -> tuple[Accumulator, ...]:
        """The accumulators that are computed at every step."""
        return tuple(each for each in self.accumulators if not each.constant)

    @property
    def steps_together(self) -> int:
        """Steps of a layer that a computer runs before the next layer."""
        return min(self.graph.steps, MOST_TOGETHER)

    @property
    def channel_bits(self) -> int:
        """Bits of the type that numbers the channels of a map, from 0."""
        return _unsigned_bits(self._most_channels - 1)

    @property
    def count_bits(self) -> int:
        """Bits of the type that counts the spikes of a pixel: at most its channels."""
        return _unsigned_bits(self._most_channels)

    @property
    def _most_channels(self) -> int:
        sizes = [self.input.size, *(each.size for each in self.accumulators)]
        return max(size.channels for size in sizes)


def _unsigned_bits(largest: int) -> int:
    return next(bits for bits in (8, 16, 32) if largest < 2**bits)


def plan_program(graph: Graph, *, windows: bool = True) -> Plan:
    """Plan the program of an integer network.

    Args:
        graph: the network.
        windows: whether pooling is read as windows of a population, not computed as a sum.

    Raises:
        ExportError: not an integer network, or a value that needs more than 32 bits.
    """
    if not graph.is_integer:
        raise ExportError(
            "c holds integer networks only: float potentials depend on the compiler; make one with "
            "icsnn quantize"
        )
    return _Planner(graph, windows=windows).plan()


class _Planner:
    def __init__(self, graph: Graph, *, windows: bool) -> None:
        self.graph = graph
        self.names = identifiers([node.name for node in graph.nodes])
        self.ranges: dict[str, Range] = ranges_of(graph)
        self.bounds = {bound.layer: bound for bound in certify(graph).bounds}
        self.constant = graph.constant_nodes()
        populations = graph.nodes_of(Population) if windows else ()
        self.windows = {node.name: self._window(node) for node in populations}
        self.sums = {node.name for node in graph.nodes if self._is_kept(node)}
        self.sources: dict[str, Source] = {}

    def plan(self) -> Plan:
        node = self.graph.input
        values = None if node.is_timed else input_width(node.dtype)
        start = self._source(node, values)
        accumulators = tuple(
            self._accumulator(node)
            for node in self.graph.nodes
            if isinstance(node, Population | Output) or node.name in self.sums
        )
        return Plan(graph=self.graph, input=start, accumulators=accumulators)

    def _is_kept(self, node: Node) -> bool:
        """Whether a linear node's result is kept: a connection reads it, or several nodes do."""
        if not isinstance(node, Conv | Linear | ChannelAffine | Add) or self._is_pool(node):
            return False
        consumers = self.graph.consumers(node.name)
        absorbed = isinstance(consumers[0], Add | Population | Output)
        return len(consumers) > 1 or not absorbed

    def _window(self, node: Population) -> tuple[int, int]:
        """The windows whose sums alone are read of a population; (1, 1): it is read itself."""
        shape = self.graph.shape(node.name)
        consumers = self.graph.consumers(node.name)
        pools = [each for each in consumers if isinstance(each, Conv) and is_sum_pool(each, shape)]
        kernels = {each.kernel for each in pools}
        if len(pools) < len(consumers) or len(kernels) != 1:
            return (1, 1)
        height, width = (1, *kernels.pop())[-2:]
        return height, width

    def _is_pool(self, node: Node) -> bool:
        """Whether a node's result is that of a population, read in windows."""
        return isinstance(node, Conv) and self.windows.get(node.inputs[0], (1, 1)) != (1, 1)

    def _source(self, node: Node, values: Width | None) -> Source:
        size = MapSize.of(self.graph.shape(node.name))
        constant = node.name in self.constant
        source = Source(name=self.names[node.name], size=size, values=values, constant=constant)
        self.sources[node.name] = source
        return source

    def _add_spikes(self, node: IF) -> None:
        """Add the spikes of a population as a source, or the sums of its windows."""
        spikes = self._source(node, None)
        for pool in self.graph.consumers(node.name):
            if self._is_pool(pool):
                size = MapSize.of(self.graph.shape(pool.name))
                window = self.windows[node.name]
                self.sources[pool.name] = replace(spikes, size=size, window=window)

    def _view(self, name: str) -> Source:
        """The source that a node's result is: a flattened one for a Flatten."""
        node = self.graph.node(name)
        if not isinstance(node, Flatten):
            return self.sources[name]
        return replace(self._view(node.inputs[0]), flattened=True)

    def _parts(self, name: str) -> list[Connection]:
        """The connections whose sum is the result of a node."""
        node = self.graph.node(name)
        if name in self.sources or isinstance(node, Flatten):
            return [Connection(node=None, name=self.names[name], source=self._view(name))]
        if isinstance(node, Add):
            return [part for source in node.inputs for part in self._parts(source)]
        if not isinstance(node, Conv | Linear | ChannelAffine):
            raise ExportError(f"{name}: c has no rule for {node.kind!r}")
        return [Connection(node=node, name=self.names[name], source=self._view(node.inputs[0]))]

    def _accumulator(self, node: Node) -> Accumulator:
        is_end = isinstance(node, Population | Output)
        parts = self._parts(node.inputs[0] if is_end else node.name)
        constant = node.name in self.constant
        steady = {self.names[name] for name in self.constant if name in self.sources}
        once = constant and not is_end
        fixed = () if once else tuple(p for p in parts if p.source.name in steady)
        moving = tuple(part for part in parts if part not in fixed)
        reach = self.ranges[node.name if not is_end else node.inputs[0]].partial
        shape = self.graph.shape(node.name)
        size, bias = MapSize.of(shape), self._bias(parts, shape)
        common: dict[str, Any] = {
            "node": node,
            "name": self.names[node.name],
            "size": size,
            "shape": shape,
            "constant": once,
            "connections": moving,
            "constant_connections": fixed,
            "bias": bias,
        }
        if isinstance(node, IF):
            self._add_spikes(node)
            widths = self._population(node, bias, reach, steady=not moving)
            window = self.windows.get(node.name, (1, 1))
            return Accumulator(**common, role="population", window=window, **widths)
        if isinstance(node, Population):
            raise ExportError(f"{node.name}: c has no rule for {node.kind!r}")
        if isinstance(node, Output):
            bound = self.bounds[node.name]
            return Accumulator(
                **common,
                role="output",
                sum_width=width_of(bound.potential + reach, f"{node.name}: the sum", least=32),
                parameter=width_of_values(bias, f"{node.name}: the bias", least=16),
                bound=bound,
            )
        width = width_of(reach, f"{node.name}: a partial sum", least=16)
        self._source(node, width)
        parameter = width_of_values(bias, f"{node.name}: the bias", least=16)
        return Accumulator(**common, role="values", sum_width=width, parameter=parameter)

    def _population(self, node: IF, bias: Array, reach: int, *, steady: bool) -> dict[str, Any]:
        """Types of a population; reach is its largest partial sum, steady: all of it constant."""
        bound = self.bounds[node.name]
        sums = width_of(reach, f"{node.name}: a partial sum", least=16)
        potential = width_of(bound.potential, f"{node.name}: the potential", least=16)
        both = bound.potential + reach
        in_place = not steady and (both < 2**15 or sums.bits == 32)
        if in_place:
            potential = sums = width_of(both, f"{node.name}: the potential", least=16)
        arrays = [bias, node.v_threshold, np.floor(node.v_init)]
        arrays += [] if node.v_reset is None else [np.floor(node.v_reset)]
        parameter = max(
            (width_of_values(each, node.name, least=16) for each in arrays),
            key=lambda width: (width.bits, width.reach),
        )
        return {
            "sum_width": sums,
            "potential": potential,
            "parameter": parameter,
            "bound": bound,
            "in_place": in_place,
        }

    def _bias(self, parts: list[Connection], shape: tuple[int, ...]) -> Array:
        """The sum of all biases, [C]; [P, C] where one is given per neuron."""
        total: Array = np.zeros(shape[0], np.int64)
        for part in parts:
            match part.node:
                case Conv() | Linear():
                    total = total + part.node.bias.astype(np.int64)
                case ChannelAffine():
                    total = total + per_channel_or_neuron(part.node.shift.astype(np.int64), shape)
        return total
