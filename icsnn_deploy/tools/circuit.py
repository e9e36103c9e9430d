"""A network as neurons and synapses, which is what simulators of chips take.

The affine nodes between two populations become one sparse matrix per pair of them, and one constant
current per neuron. Timing is that of `lava.plan`: a synapse delays by one step, so that the first
step of a population is `offset` steps after that of the input; shorter paths of a join get a delay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.errors import GraphError, listed
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.lava.plan import Connection, LavaPlan, make_plan

_VALUES_AT_ONCE = 2**22  # sent through a connection at a time to find its synapses


@dataclass(frozen=True, kw_only=True, eq=False)
class Synapses:
    """All synapses from one source to one target, in compressed rows, one row per source neuron."""

    source: str  # the input or a population
    target: str
    delay: int  # steps, in addition to that of every synapse
    starts: Array  # int64 [sources + 1], of each row in the two other arrays
    targets: Array  # int32 [synapses]
    weights: Array  # int64 [synapses], not zero

    @property
    def count(self) -> int:
        """Number of synapses."""
        return len(self.weights)


@dataclass(frozen=True, kw_only=True, eq=False)
class Neurons:
    """The neurons of one population, as flat arrays."""

    name: str
    offset: int  # steps from the input's first step to its own
    v_threshold: Array  # int64 [neurons]
    v_init: Array  # int64 [neurons], rounded down
    v_reset: Array | None  # int64 [neurons], rounded down; None: soft reset
    bias: Array  # int64 [neurons]
    on_host: bool  # its spikes are computed by the host, because the analog input drives it


@dataclass(frozen=True, kw_only=True, eq=False)
class Circuit:
    """A network as neurons and synapses; the readout is left to the host."""

    graph: Graph
    plan: LavaPlan
    neurons: tuple[Neurons, ...]
    synapses: tuple[Synapses, ...]  # between the input, if it is spikes, and the populations

    @property
    def synapse_count(self) -> int:
        """Number of all synapses."""
        return sum(each.count for each in self.synapses)

    def neurons_of(self, name: str) -> Neurons:
        """The neurons of a population."""
        return next(each for each in self.neurons if each.name == name)

    def readout(self, spikes: Mapping[str, Array], inputs: Array) -> Array:
        """Current of the output at each step, from the spikes of its sources.

        Args:
            spikes: of each population, [T, B, *shape].
            inputs: of the run, [B, *shape], or [T, B, *shape] if they are spikes.

        Returns:
            int64 [T, B, *output shape].
        """
        graph = self.graph
        output = graph.output.name
        batch = inputs.shape[graph.input.batch_axis]
        total = np.zeros((graph.steps, batch, *graph.shape(output)), np.int64)
        total += self.plan.bias[output]
        for connection in self.plan.incoming(output):
            if connection.source == graph.input.name and not graph.input.is_timed:
                total += connection(inputs.astype(np.int64))
                continue
            sent = inputs if connection.source == graph.input.name else spikes[connection.source]
            total += np.stack([connection(step.astype(np.int64)) for step in sent])
        return total


def make_circuit(graph: Graph, *, most_synapses: int, tool: str) -> Circuit:
    """Take an integer network apart into neurons and synapses.

    Args:
        graph: the network.
        most_synapses: that the tool runs in reasonable time and memory.
        tool: for messages.

    Raises:
        GraphError: no integer network, no population that receives spikes, an analog input into a
            population that spikes drive as well, or more synapses than `most_synapses`.
    """
    if not graph.is_integer:
        raise GraphError(
            f"{tool} runs integer networks: make one with icsnn quantize, then run it again"
        )
    plan = make_plan(graph)
    analog = None if graph.input.is_timed else graph.input.name
    neurons = tuple(_neurons(graph, plan, node, analog) for node in graph.nodes_of(IF))
    if all(each.on_host for each in neurons):
        names = listed([each.name for each in neurons]) or "none"
        raise GraphError(
            f"no population is left for {tool}: the host computes all that the analog input drives "
            f"({names}). Convert the model with icsnn convert --encoding rate, or run backend "
            "reference"
        )
    synapses: list[Synapses] = []
    left = most_synapses
    for connection in plan.connections:
        if connection.target == graph.output.name or connection.source == analog:
            continue
        found = _synapses(connection, left, most_synapses, tool)
        left -= found.count
        synapses.append(found)
    return Circuit(graph=graph, plan=plan, neurons=neurons, synapses=tuple(synapses))


def _neurons(graph: Graph, plan: LavaPlan, node: IF, analog: str | None) -> Neurons:
    shape = graph.shape(node.name)
    sources = {connection.source for connection in plan.incoming(node.name)}
    if analog in sources and len(sources) > 1:
        others = ", ".join(sorted(sources - {graph.input.name}))
        raise GraphError(
            f"{node.name}: driven by the analog input and by the spikes of {others}; a tool that "
            "takes only spikes can't run it. Convert the model with icsnn convert --encoding rate"
        )

    def flat(values: Array) -> Array:
        return np.broadcast_to(np.floor(values).astype(np.int64), shape).ravel()

    return Neurons(
        name=node.name,
        offset=plan.offsets[node.name],
        v_threshold=flat(node.v_threshold),
        v_init=flat(node.v_init),
        v_reset=None if node.v_reset is None else flat(node.v_reset),
        bias=flat(plan.bias[node.name]),
        on_host=analog in sources,
    )


def _synapses(connection: Connection, left: int, most: int, tool: str) -> Synapses:
    """The nonzero weights of a connection, found by sending single spikes through it."""
    count, width = math.prod(connection.shape_in), math.prod(connection.shape_out)
    chunk = max(1, _VALUES_AT_ONCE // max(count, width))
    lengths, targets, weights = [np.zeros(1, np.int64)], [], []
    for first in range(0, count, chunk):
        units = np.eye(min(chunk, count - first), count, first, np.int64)
        rows = connection(units.reshape(-1, *connection.shape_in)).reshape(len(units), -1)
        source, target = np.nonzero(rows)
        left -= len(target)
        if left < 0:
            raise GraphError(
                f"{connection.source} -> {connection.target}: the network has more than {most:,} "
                f"synapses, the most that {tool} runs in reasonable time and memory. Run a smaller "
                "network"
            )
        lengths.append(np.bincount(source, minlength=len(units)))
        targets.append(target.astype(np.int32))
        weights.append(rows[source, target])
    return Synapses(
        source=connection.source,
        target=connection.target,
        delay=connection.delay,
        starts=np.cumsum(np.concatenate(lengths)),
        targets=np.concatenate(targets),
        weights=np.concatenate(weights),
    )
